"""Does the recursion help? The networks that are compared, and the runs that train them."""

from trc_lib.course.experiments.definitions import STUDIES, Study, Variant, multiply_adds
from trc_lib.course.experiments.runs import SEEDS, load_results, run_sweep, ship

__all__ = ["SEEDS", "STUDIES", "Study", "Variant", "load_results", "multiply_adds", "run_sweep",
           "ship"]
