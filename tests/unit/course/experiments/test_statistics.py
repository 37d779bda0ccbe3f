"""Paired comparisons against SciPy's paired test, corrected families against a search over sets."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from trc_lib.course.experiments import Comparison, compare, family, holm, statistics


def table(figures, figure="control_mse"):
    """A table as `load_results` reads it, of ``{name: figures by seed}``."""
    return {"figure": figure, "variants": {
        name: {"runs": [{figure: float(value), "other": 2.0 ** i} for i, value in enumerate(each)]}
        for name, each in figures.items()}}


# ---------------------------------------------------------------- one comparison

@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_a_comparison_is_scipys_paired_t_test_on_the_logarithms(seeds):
    rng = np.random.default_rng(seeds)
    ours, theirs = np.exp(rng.normal(-7, 1, seeds)), np.exp(rng.normal(-6.5, 1, seeds))
    found = compare(ours, theirs, ("a", "b"))
    test = scipy.stats.ttest_rel(np.log(theirs), np.log(ours))
    assert found.p == pytest.approx(test.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(np.exp(test.confidence_interval(0.95)))
    assert found.ratio == pytest.approx(np.prod(theirs / ours) ** (1 / seeds))
    assert found.wins == sum(a < b for a, b in zip(ours, theirs)) and found.seeds == seeds
    assert (found.ours, found.theirs) == ("a", "b")


def test_the_interval_is_the_one_that_a_hand_computes():
    found = compare([1.0, 1.0, 1.0], [2.0, 4.0, 8.0])  # logarithms of base 2: 1, 2, 3
    half = 4.302652729911275 / math.sqrt(3)  # Student's t, two degrees, 97.5 %; their spread is 1
    assert found.ratio == pytest.approx(4.0)
    assert (found.low, found.high) == pytest.approx((2 ** (2 - half), 2 ** (2 + half)))
    t = 2 * math.sqrt(3)
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t**2))  # exact for two degrees


def test_a_comparison_the_other_way_round_is_its_reciprocal():
    rng = np.random.default_rng(1)
    ours, theirs = rng.uniform(1, 2, 6), rng.uniform(1, 3, 6)
    one, other = compare(ours, theirs), compare(theirs, ours)
    assert (1 / other.ratio, 1 / other.high, 1 / other.low) == pytest.approx(
        (one.ratio, one.low, one.high))
    assert other.p == pytest.approx(one.p) and one.wins + other.wins == 6


def test_no_unit_changes_a_comparison():
    rng = np.random.default_rng(2)
    ours, theirs = rng.uniform(1, 2, 5), rng.uniform(1, 3, 5)
    one, other = compare(ours, theirs), compare(1e-9 * ours, 1e-9 * theirs)
    assert (one.ratio, one.low, one.high, one.p) == pytest.approx(
        (other.ratio, other.low, other.high, other.p), rel=1e-9)


def test_identical_figures_are_undecided_with_ratio_one():
    found, = family(table({"a": [3.0, 1.0, 2.0], "b": [3.0, 1.0, 2.0]}), [("a", "b")])
    assert (found.ratio, found.low, found.high, found.wins) == (1.0, 1.0, 1.0, 0)
    assert (found.p, found.p_family, found.verdict) == (1.0, 1.0, "undecided")


def test_the_same_ratio_on_every_seed_is_decided():
    figures = {"a": [1.0, 10.0, 7.0], "b": [2.0, 20.0, 14.0]}
    found, back = family(table(figures), [("a", "b"), ("b", "a")])
    assert (found.ratio, back.ratio) == pytest.approx((2.0, 0.5))
    assert (found.verdict, back.verdict, found.wins, back.wins) == ("better", "worse", 3, 0)


@pytest.mark.parametrize(("ours", "theirs"), [
    ([1.0, 2.0], [1.0, 2.0, 3.0]), ([1.0], [2.0]), ([], []), ([[1.0, 2.0]], [[1.0, 2.0]]),
    (1.0, 2.0)])
def test_figures_that_make_no_pairs_are_refused(ours, theirs):
    with pytest.raises(ValueError, match="needs as many figures of each, two or more"):
        compare(ours, theirs)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_figures_without_a_logarithm_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=r"ours=.* is not accepted; needs positive, finite"):
        compare([1.0, wrong], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"theirs=.* is not accepted; needs positive, finite"):
        compare([1.0, 2.0], [wrong, 2.0])


# ---------------------------------------------------------------- verdicts

@pytest.mark.parametrize(("ratio", "p", "verdict", "words"), [
    (2.0, 0.01, "better", "better, 2 times"), (0.25, 0.01, "worse", "worse, 4 times"),
    (2.0, 0.05, "better", "better, 2 times"), (2.0, 0.0501, "undecided", "undecided"),
    (0.5, 0.9, "undecided", "undecided"), (1.0, 1.0, "undecided", "undecided"),
    (9.0, math.nan, "undecided", "undecided")])
def test_a_verdict_needs_the_level_of_the_family_and_undecided_is_not_called_equal(
        ratio, p, verdict, words):
    found = Comparison("a", "b", ratio, ratio / 2, ratio * 2, 4, 5, 0.001, p)
    assert found.verdict == verdict
    assert f"a against b: {words} (ratio" in str(found) and "4 of 5 seeds" in str(found)
    assert not {"equal", "same", "identical"} & set(str(found).replace(",", " ").split())


def test_a_comparison_by_itself_has_no_verdict_before_its_family_is_known():
    found = compare([1.0, 1.01, 0.99], [2.0, 2.01, 2.02])
    assert found.p < 0.001 and math.isnan(found.p_family) and found.verdict == "undecided"


# ---------------------------------------------------------------- families

def closed(p_values):
    """Holm's corrected p-values as a closed test: by Bonferroni over every set with the one."""
    every = [each for size in range(1, len(p_values) + 1)
             for each in itertools.combinations(range(len(p_values)), size)]
    return [max(min(1.0, len(each) * min(p_values[j] for j in each)) for each in every if i in each)
            for i in range(len(p_values))]


@pytest.mark.parametrize("number", range(1, 9))
def test_holm_is_the_closed_test_over_all_sets_of_comparisons(number):
    rng = np.random.default_rng(number)
    for scale in (1.0, 0.1, 0.01):
        p_values = scale * rng.uniform(size=number)
        p_values[rng.integers(number)] = p_values[0]  # a tie
        assert holm(p_values) == pytest.approx(closed(p_values))


@pytest.mark.parametrize(("p_values", "corrected"), [
    ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # the usual textbook example
    ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),  # R: p.adjust(p, "holm")
    ([0.6, 0.5], [1.0, 1.0]), ([0.03], [0.03]), ([], [])])
def test_holm_gives_the_examples_of_the_books(p_values, corrected):
    assert holm(p_values) == pytest.approx(corrected)


def test_a_family_is_corrected_over_all_its_comparisons():
    rng = np.random.default_rng(3)
    figures = {name: np.exp(rng.normal(size, 0.3, 5))
               for name, size in zip("abcd", (0.0, 0.5, 1.0, 0.1))}
    pairs = [("a", "b"), ("a", "c"), ("d", "a"), ("c", "b")]
    found = family(table(figures), pairs)
    by_scipy = [scipy.stats.ttest_rel(*(np.log(figures[name]) for name in pair)).pvalue
                for pair in pairs]
    assert [each.p for each in found] == pytest.approx(by_scipy)
    assert [each.p_family for each in found] == pytest.approx(closed(by_scipy))
    assert [(each.ours, each.theirs) for each in found] == pairs
    alone, = family(table(figures), pairs[:1])
    assert alone.p_family == alone.p == found[0].p < found[0].p_family


def test_a_larger_family_can_take_a_verdict_back():
    figures = {"a": [1.0, 1.1, 0.9, 1.0, 1.0], "b": [1.5, 1.3, 1.2, 1.25, 1.05],
               **{f"same{i}": [1.0, 1.1, 0.9, 1.0, 1.0] for i in range(9)}}
    alone, = family(table(figures), [("a", "b")])
    among, *_ = family(table(figures), [("a", "b"), *(("a", f"same{i}") for i in range(9))])
    assert alone.verdict == "better" and among.verdict == "undecided"


def test_the_figure_that_decides_is_compared_unless_another_is_named():
    results = table({"a": [1.0, 1.5, 1.1], "b": [2.0, 2.5, 2.1]}, figure="final_error")
    decides, other = family(results, [("a", "b")]), family(results, [("a", "b")], "other")
    assert decides[0].ratio > 1.5 and other[0].ratio == 1.0


def test_an_unknown_name_is_refused_with_the_one_that_was_meant():
    results = table({"recursive": [1.0, 2.0], "corrector": [2.0, 3.0]})
    for pair in (("recursiv", "corrector"), ("corrector", "recursiv")):
        with pytest.raises(ValueError, match=r"'recursiv' is unknown; accepted are recursive, "
                                             r"corrector.*did you mean.*recursive"):
            family(results, [("recursive", "corrector"), pair])


@pytest.mark.parametrize(("shared", "families"), [(False, 2_000), (True, 500)])
def test_families_without_a_difference_rarely_give_a_verdict(shared, families):
    """At most one in twenty: six comparisons, each of two networks of their own or all of one."""
    rng, false, alone = np.random.default_rng(4), 0, 0
    for _ in range(families):
        seeds = rng.normal(0, 1, 5)  # data that all networks of a seed share
        logs = seeds + rng.normal(0, 0.2, (12, 5))
        pairs = [(0 if shared else 6 + i, i + 1 if shared else i) for i in range(6)]
        found = [compare(*np.exp(logs[list(pair)])) for pair in pairs]
        false += min(holm([each.p for each in found])) <= statistics.LEVEL
        alone += min(each.p for each in found) <= statistics.LEVEL
    slack = 3 * math.sqrt(0.05 * 0.95 / families)
    assert false / families <= 0.05 + slack
    assert alone / families > 0.15  # what no correction would give
    assert shared or false / families > 0.05 - slack - 0.002  # nor is it stricter than it need be
