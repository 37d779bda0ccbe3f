"""Is a difference a difference? Paired comparisons over seeds, and verdicts on families of them."""

import dataclasses
import math

import numpy as np
import scipy.stats

from trc_lib import validation

LEVEL = 0.05  # of a family: the probability of one false verdict or more, at most


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One variant against another by one figure, over seeds that share their data.

    Attributes:
        ours, theirs: names.
        ratio: theirs over ours, the geometric mean over the seeds; above 1 where ours is better.
        low, high: the 95 % confidence interval of the ratio, of this comparison alone.
        wins: seeds on which ours is better.
        seeds: how many there are.
        p: two-sided, of the paired t-test on the logarithms.
        p_family: the same, corrected for all comparisons of the family (Holm).
        failed: seeds on which one of the two has no figure, since its training failed. Nothing is
            decided then, and the other figures are of the seeds that are left.
    """

    ours: str
    theirs: str
    ratio: float
    low: float
    high: float
    wins: int
    seeds: int
    p: float
    p_family: float = math.nan
    failed: int = 0

    @property
    def verdict(self):
        """``"better"``, ``"worse"`` or ``"undecided"``, which does not mean equal."""
        if not self.p_family <= LEVEL:
            return "undecided"
        return "better" if self.ratio > 1 else "worse"

    def __str__(self):
        words = {"better": f"better, {self.ratio:.3g} times", "undecided": "undecided",
                 "worse": f"worse, {1 / self.ratio:.3g} times"}[self.verdict]
        if self.failed:
            words = f"undecided, {self.failed} seeds failed"
        return (f"{self.ours} against {self.theirs}: {words} (ratio {self.ratio:.3g}, 95 % "
                f"[{self.low:.3g}, {self.high:.3g}]; {self.wins} of {self.seeds} seeds; "
                f"p = {self.p_family:.2g})")


def compare(ours, theirs, names=("ours", "theirs")):
    """A paired comparison of figures of which the smaller is better, one a seed.

    The test takes the logarithms of the ratios as normal, which nobody can verify with five seeds.
    The test that needs no assumption, by the signs alone, could not decide at all: five wins of
    five have p = 2 / 32.

    Args:
        ours, theirs: positive numbers, in the same order of seeds.
        names: of the two.

    Raises:
        ValueError: for fewer than two seeds, other numbers of them, or figures that are not
            positive and finite.
    """
    ours, theirs = (np.asarray(values, dtype=float) for values in (ours, theirs))
    if ours.shape != theirs.shape or ours.ndim != 1 or len(ours) < 2:
        raise ValueError(f"ours and theirs have the shapes {list(ours.shape)} and "
                         f"{list(theirs.shape)}; needs as many figures of each, two or more")
    for name, values in (("ours", ours), ("theirs", theirs)):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError(f"{name}={values.tolist()} is not accepted; "
                             "needs positive, finite figures")
    logs = np.log(theirs) - np.log(ours)
    if np.ptp(logs) <= 1e-12:  # the t-test would divide by zero
        ratio = float(np.exp(logs.mean()))
        p = 1.0 if abs(logs[0]) <= 1e-12 else 0.0
        return Comparison(*names, ratio, ratio, ratio, int((logs > 0).sum()), len(logs), p)
    test = scipy.stats.ttest_1samp(logs, 0.0)
    low, high = np.exp(test.confidence_interval(0.95))
    return Comparison(*names, float(np.exp(logs.mean())), float(low), float(high),
                      int((logs > 0).sum()), len(logs), float(test.pvalue))


def holm(p_values):
    """p-values corrected for their number; what stays at most `LEVEL` is decided.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)
    scaled = p_values[order] * (len(p_values) - np.arange(len(p_values)))
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected.tolist()


def family(results, pairs, figure=None):
    """Comparisons that are made together, and so corrected together.

    Args:
        results: a table, as `load_results` reads it.
        pairs: of names of its variants, each (ours, theirs).
        figure: what is compared, a number of each run; the one that decides if None.

    Returns:
        a `Comparison` for each pair.
    """
    variants, figure = results["variants"], results["figure"] if figure is None else figure
    compared = []
    for pair in pairs:
        runs = []
        for name in pair:
            if name not in variants:
                raise ValueError(f"pairs: {name!r} is unknown; accepted are {', '.join(variants)}"
                                 f"{validation.did_you_mean(name, variants)}")
            runs.append(variants[name]["runs"])
        whole = [(a, b) for a, b in zip(*runs) if "failed" not in a and "failed" not in b]
        for run in whole[0] if whole else ():
            numbers = [key for key, value in run.items() if isinstance(value, int | float)]
            validation.one_of("figure", figure, tuple(numbers))
        failed = len(runs[0]) - len(whole)
        if len(whole) < 2:
            each = Comparison(*pair, *[math.nan] * 3, 0, len(whole), 1.0, failed=failed)
        else:
            each = compare(*([run[figure] for run in side] for side in zip(*whole)), pair)
            if failed:
                each = dataclasses.replace(each, p=1.0, failed=failed)
        compared.append(each)
    corrected = holm([each.p for each in compared])
    return [dataclasses.replace(each, p_family=p) for each, p in zip(compared, corrected)]
