"""Small notebooks for the tests of the batch runner."""

import nbformat


def write_notebook(path, *cells, declared='lane = "cpu"\nseed = 0'):
    """A notebook with a parameters cell, a check and code cells; returns its name.

    Each cell is a source, or (source, tags).
    """
    kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernelspec})
    check = "if seed < 0:\n    raise ValueError(f'seed={seed} is too small')"
    sources = [(declared, ["parameters"]), check, *cells]
    tagged = [(cell, []) if isinstance(cell, str) else cell for cell in sources]
    notebook.cells = [nbformat.v4.new_code_cell(source, metadata={"tags": tags})
                      for source, tags in tagged]
    nbformat.write(notebook, path)
    return path.stem
