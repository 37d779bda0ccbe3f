"""Does the recursion help? Rivals on the same data with the same budget, and the batch run over all of them."""

from trc_lib.laboratory.rivals import STUDIES, Rival, Study
from trc_lib.laboratory.sweep import SEEDS, load_results, run_sweep, ship

__all__ = ["SEEDS", "STUDIES", "Rival", "Study", "load_results", "run_sweep", "ship"]
