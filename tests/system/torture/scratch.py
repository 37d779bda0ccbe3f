"""A course to make a mess in."""


import nbformat

from tests import ROOT

NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
CHECK = "from trc_lib import course\nlane = course.check_parameters(lane, seed, checkpoint=checkpoint)"  # every notebook of the course has it second
PARAMETERS = 'lane = "cpu"\nseed = 0\ncheckpoint = "shipped"'


def scratch_course(folder, cell, cells=None):
    """A folder that looks like the root, whose notebooks do this one cell with their ``lane``, or their own of ``cells``."""
    for name in ("notebooks", "trc_lib"):
        (folder / name).mkdir(parents=True)
    kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    for name in NOTEBOOKS:
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernelspec})
        notebook.cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
                          nbformat.v4.new_code_cell(CHECK),
                          nbformat.v4.new_code_cell((cells or {}).get(name, cell))]
        nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")
    return folder
