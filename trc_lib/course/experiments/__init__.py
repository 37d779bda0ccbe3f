"""Does the recursion help? Who is compared, the runs that measure it, and the verdicts."""

from trc_lib.course.experiments.corrections import Correction
from trc_lib.course.experiments.definitions import STUDIES, Study, Variant, multiply_adds
from trc_lib.course.experiments.front import mean_of, on_the_front
from trc_lib.course.experiments.report import table
from trc_lib.course.experiments.runs import (
    SEEDS,
    load_results,
    recipe_of,
    run_sweep,
    run_variant,
    ship,
)
from trc_lib.course.experiments.statistics import Comparison, compare, family, holm

__all__ = ["SEEDS", "STUDIES", "Comparison", "Correction", "Study", "Variant", "compare",
           "family", "holm", "load_results", "mean_of", "multiply_adds", "on_the_front",
           "recipe_of", "run_sweep", "run_variant", "ship", "table"]
