"""Does the recursion help? Rivals on the same data with the same budget, and the batch run over all of them."""

from trc_lib.course.experiments.definitions import STUDIES, Study, Variant, multiply_adds
from trc_lib.course.experiments.runs import SEEDS, load_results, run_sweep, ship

__all__ = ["SEEDS", "STUDIES", "Study", "Variant", "load_results", "multiply_adds", "run_sweep", "ship"]
