"""Small notebooks for the tests of the batch runner."""

import nbformat


def write_notebook(path, *cells, declared='lane = "cpu"\nseed = 0'):
    """A notebook with a parameters cell, a check of its own, and code cells, each a source or (source, tags); gives its name."""
    kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernelspec})
    check = "if seed < 0:\n    raise ValueError(f'seed={seed} is too small')"
    sources = [(declared, ["parameters"]), check, *cells]
    notebook.cells = [nbformat.v4.new_code_cell(cell, metadata={"tags": []}) if isinstance(cell, str) else
                      nbformat.v4.new_code_cell(cell[0], metadata={"tags": cell[1]}) for cell in sources]
    nbformat.write(notebook, path)
    return path.stem
