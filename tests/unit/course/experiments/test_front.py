"""Error against time: the figures by other means, the time by a clock that only work moves."""

import dataclasses
import itertools
import time
from functools import partial

import numpy as np
import pytest

from trc_lib.course.experiments import (
    Correction,
    Study,
    Variant,
    corrections,
    definitions,
    front,
    mean_of,
    on_the_front,
    runs,
)
from trc_lib.evaluation import measure
from trc_lib.model.baselines import MLP
from trc_lib.problems import PROBLEMS

SIZES = {"latent_dim": 16, "block_hidden": 16, "head_hidden": 16, "H_cycles": 1}
FIELDS = {"name", "label", "kind", "iterations", "one_ms", "batch_ms", "runs"}


def small_mlp(teacher, seed):
    return MLP.within(2_000, teacher.system, seed, horizon=teacher.horizon)


def exact(name, start, one=corrections.exact_one, iterations=(0, 1)):
    return Correction(name, f"{start} corrected", start, corrections.exact, one, iterations)


STUDY = Study(
    "quick", "double_integrator", "control_mse", num_train=64, num_validation=16, num_test=32,
    variants=(Variant("rec", "recursive", partial(definitions.recursive, **SIZES),
                      ({"epochs": 2},)),
              Variant("mlp", "an MLP", small_mlp, ({"epochs": 2},))),
    corrections=(exact("from_nothing", "nothing", iterations=(0, 1, 2)),
                 exact("from_linear", "linear map"), exact("from_nearest", "nearest neighbour"),
                 exact("from_rec", "rec"), exact("from_mlp", "mlp", one=None)))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Short measurements of few problems, without ONNX, which takes seconds for each network."""
    for name, value in (("SECONDS", 0.001), ("BATCH", 16), ("SINGLE", 8),
                        ("_session", lambda model: None)):
        monkeypatch.setattr(front, name, value)


@pytest.fixture(scope="module")
def trained():
    """Two seeds of each variant, of which one failed, and the problems of each seed."""
    networks = {variant.name: [runs.run_variant(variant, 2e-3, seed, STUDY)[0] for seed in (0, 1)]
                for variant in STUDY.variants}
    networks["rec"][1] = None
    return networks, runs._sets(STUDY, (0, 1))


@pytest.fixture
def points(trained):
    found = front.measure_front(STUDY, *trained)
    return {(point["name"], point["iterations"]): point for point in found}


# ---------------------------------------------------------------- the figures

def figures(data, controls):
    """Some figures of controls of a cart, by plain loops."""
    u, (p, v), dt = np.asarray(controls)[:, :, 0], data.initial_states.numpy().T, 0.33
    for now in u.T:
        p, v = p + v * dt + now * dt**2 / 2, v + now * dt
    errors = np.hypot(*(np.stack([p, v]) - data.target_states.numpy().T))
    best = data.controls.numpy()[:, :, 0]
    return {"final_error_mean": errors.mean(), "final_error_max": errors.max(),
            "control_mse": ((u - best) ** 2).mean(), "success_rate": (errors < 0.1).mean(),
            "cost_ratio": (u ** 2).sum() / (best ** 2).sum()}


def assert_figures(run, data, controls):
    expected = figures(data, controls)
    assert {name: run[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-10)


def test_there_is_a_point_for_each_network_and_each_number_of_iterations(points, trained):
    assert list(points) == [
        ("rec", 0), ("mlp", 0), ("from_nothing", 0), ("from_nothing", 1), ("from_nothing", 2),
        ("from_linear", 0), ("from_linear", 1), ("from_nearest", 0), ("from_nearest", 1),
        ("from_rec", 0), ("from_rec", 1), ("from_mlp", 0), ("from_mlp", 1)]
    labels = {each.name: each.label for each in (*STUDY.variants, *STUDY.corrections)}
    for (name, _), point in points.items():
        assert set(point) == FIELDS and point["label"] == labels[name]
        assert point["kind"] == ("network" if name in trained[0] else "correction")
        assert 0 < point["batch_ms"] <= point["one_ms"]
        assert all(set(run) == set(front.KEPT) for run in point["runs"])


def test_the_figures_of_a_network_are_those_of_the_controls_of_each_seed(points, trained):
    networks, sets = trained
    test_set = sets[0][-1]
    problems = test_set.initial_states, test_set.target_states
    for name in ("rec", "mlp"):
        usable = [model for model in networks[name] if model is not None]
        assert len(usable) == {"rec": 1, "mlp": 2}[name]
        for run, model in zip(points[name, 0]["runs"], usable, strict=True):
            controls = model.solve(*problems)
            assert_figures(run, test_set, controls)
            metrics = dataclasses.asdict(measure(test_set, controls))
            assert run == {name: metrics[name] for name in front.KEPT}
    one, other = points["mlp", 0]["runs"]
    assert one["control_mse"] != other["control_mse"]


def test_the_figures_of_a_correction_are_those_of_a_pseudo_inverse(points, trained):
    networks, sets = trained
    test_set = sets[0][-1]
    x0, xT = test_set.initial_states.numpy(), test_set.target_states.numpy()
    A, B = np.array([[1, 0.33], [0, 1]]), np.array([[0.33**2 / 2], [0.33]])
    C = np.hstack([np.linalg.matrix_power(A, 14 - k) @ B for k in range(15)])
    drift = np.linalg.matrix_power(A, 15)

    def corrected(u):
        u = np.asarray(u)[:, :, 0]
        return (u - (x0 @ drift.T + u @ C.T - xT) @ np.linalg.pinv(C).T)[:, :, None]

    guesses = {"from_nothing": [0 * test_set.controls]}
    for name in ("rec", "mlp"):
        guesses[f"from_{name}"] = [model.solve(x0, xT) for model in networks[name]
                                   if model is not None]
    problems = np.hstack([x0, xT])
    guesses["from_linear"], guesses["from_nearest"] = [], []
    for train_set, *_ in sets:
        known = np.hstack([train_set.initial_states, train_set.target_states])
        u = train_set.controls.numpy()
        guesses["from_linear"].append(
            (problems @ np.linalg.lstsq(known, u[:, :, 0], rcond=None)[0])[:, :, None])
        nearest = [((known - problem) ** 2).sum(axis=1).argmin() for problem in problems]
        guesses["from_nearest"].append(u[nearest])
    for name, several in guesses.items():
        for iterations, made in ((0, several), (1, [corrected(guess) for guess in several])):
            for run, controls in zip(points[name, iterations]["runs"], made, strict=True):
                assert_figures(run, test_set, controls)
        assert max(run["final_error_max"] for run in points[name, 1]["runs"]) < 1e-10
    assert points["from_nearest", 0]["runs"][0]["control_mse"] > 0.01


def test_a_correction_without_an_iteration_has_exactly_the_figures_of_its_guess(points):
    for name in ("rec", "mlp"):
        assert points[f"from_{name}", 0]["runs"] == points[name, 0]["runs"]
        assert points[f"from_{name}", 1]["runs"] != points[name, 0]["runs"]


# ---------------------------------------------------------------- who is left out

def test_networks_of_which_all_seeds_failed_are_left_out_and_so_are_their_corrections(trained):
    networks, sets = trained
    found = front.measure_front(STUDY, networks | {"rec": [None, None]}, sets)
    names = {point["name"] for point in found}
    assert names == {"mlp", "from_nothing", "from_linear", "from_nearest", "from_mlp"}


def test_a_correction_of_a_network_that_is_not_given_is_left_out(trained):
    networks, sets = trained
    found = front.measure_front(STUDY, {"mlp": networks["mlp"]}, sets)
    names = {point["name"] for point in found}
    assert names == {"mlp", "from_nothing", "from_linear", "from_nearest", "from_mlp"}
    found = front.measure_front(STUDY, {}, sets)
    assert {point["name"] for point in found} == {"from_nothing", "from_linear", "from_nearest"}


# ---------------------------------------------------------------- the time

@pytest.fixture
def clock(monkeypatch):
    """Makes functions that take so many milliseconds of a clock which nothing else moves."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(front, "SECONDS", 0)  # it may stand still

    def takes(milliseconds, function):
        def timed(*arguments, **options):
            now[0] += milliseconds(*arguments) / 1e3 if callable(milliseconds) else (
                milliseconds / 1e3)
            return function(*arguments, **options)
        return timed
    return takes


def slow_correction(clock, batch_ms, one_ms=None, start="mlp", **changes):
    """The exact correction, whose iterations take ``batch_ms``, or ``one_ms`` for one problem."""
    def takes(milliseconds):
        return lambda x0, xT, guess, iterations: milliseconds * iterations

    def refine(teacher):
        return clock(takes(batch_ms), corrections.exact(teacher))

    def one(teacher):
        return clock(takes(one_ms), corrections.exact_one(teacher))

    return Correction("slow", "slow", start, refine, None if one_ms is None else one, **changes)


def times(study, networks, sets):
    return {(point["name"], point["iterations"]): (point["one_ms"], point["batch_ms"])
            for point in front.measure_front(study, networks, sets)}


def test_the_time_of_the_guess_counts_whatever_the_iterations(clock, trained, monkeypatch):
    networks, sets = trained
    model = networks["mlp"][0]
    monkeypatch.setattr(model, "predict", clock(8, model.predict), raising=False)
    study = dataclasses.replace(STUDY, corrections=(slow_correction(
        clock, 2, iterations=(0, 1, 3)),))
    found = times(study, {"mlp": [model]}, sets)
    assert found == {("mlp", 0): (8, 0.5), ("slow", 0): (8, 0.5),
                     ("slow", 1): (10, 0.625), ("slow", 3): (14, 0.875)}


def test_the_faster_of_two_implementations_of_a_correction_is_timed(clock, trained, monkeypatch):
    networks, sets = trained
    model = networks["mlp"][0]
    monkeypatch.setattr(model, "predict", clock(8, model.predict), raising=False)
    for one_ms, expected in ((1, 9), (5, 10)):  # one problem: 8 + 1, or 8 + 2 by a batch of one
        study = dataclasses.replace(STUDY, corrections=(slow_correction(
            clock, 2, one_ms, iterations=(0, 1)),))
        found = times(study, {"mlp": [model]}, sets)
        assert found["slow", 1] == (expected, 0.625)


def test_nothing_costs_nothing_and_a_batch_is_never_slower_than_its_problems_one_by_one(
        clock, trained):
    study = dataclasses.replace(STUDY, corrections=(
        slow_correction(clock, 64, 1, "nothing", iterations=(0, 1, 2)),))
    found = times(study, {}, trained[1])
    assert found == {("slow", 0): (0, 0), ("slow", 1): (1, 1), ("slow", 2): (2, 2)}


class Session:
    """An ONNX session that answers with zeros."""

    def run(self, outputs, given):
        assert {name: (value.dtype, value.shape[1]) for name, value in given.items()} == {
            "initial_state": (np.float32, 2), "target_state": (np.float32, 2)}
        return [np.zeros((len(given["initial_state"]), 15, 1), dtype=np.float32)]


@pytest.mark.parametrize(("one_ms", "batch_ms", "expected"), [
    (1, 1, (1, 0.0625)), (9, 9, (4, 0.25)), (1, 9, (1, 0.25)), (9, 1, (4, 0.0625))])
def test_a_network_is_timed_in_the_implementation_that_is_fastest(
        clock, trained, monkeypatch, one_ms, batch_ms, expected):
    """PyTorch takes 4 ms; ONNX Runtime another time for one problem than for a batch."""
    networks, sets = trained
    model, session = networks["mlp"][0], Session()
    monkeypatch.setattr(model, "predict", clock(4, model.predict), raising=False)
    session.run = clock(lambda outputs, given: one_ms if len(given["initial_state"]) == 1
                        else batch_ms, session.run)
    monkeypatch.setattr(front, "_session", lambda model: session)
    monkeypatch.setattr(front.importlib.util, "find_spec", lambda name: True)
    study = dataclasses.replace(STUDY, corrections=())
    assert times(study, {"mlp": [model]}, sets) == {("mlp", 0): expected}


# ---------------------------------------------------------------- the front itself

def random_points(seed):
    """Points on a coarse grid, so that many have the same time or figure."""
    rng = np.random.default_rng(seed)
    return [{"name": i, "one_ms": int(one), "batch_ms": int(batch), "runs": [
        {"error": int(30 - one - batch + rng.integers(8))} for _ in range(2)]}
        for i, (one, batch) in enumerate(rng.integers(12, size=(40, 2)))]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("clock_of", ["one_ms", "batch_ms"])
def test_the_front_has_the_points_that_no_other_one_dominates(seed, clock_of):
    points = random_points(seed)
    values = [(point[clock_of], np.mean([run["error"] for run in point["runs"]]))
              for point in points]
    best = {value for value in values if not any(
        other != value and other[0] <= value[0] and other[1] <= value[1] for other in values)}
    for figure in ("error", lambda run: run["error"]):
        found = [(point[clock_of], mean_of(point, figure))
                 for point in on_the_front(points, figure, clock_of)]
        assert found == sorted(best) and len(found) > 2
        assert all(a[0] < b[0] and a[1] > b[1] for a, b in itertools.pairwise(found))


def test_the_front_does_not_depend_on_the_order_of_the_points_and_one_point_is_a_front():
    points = random_points(9)
    found = on_the_front(points, "error", "one_ms")
    again = on_the_front(points[::-1], "error", "one_ms")
    assert [(p["one_ms"], mean_of(p, "error")) for p in again] == [
        (p["one_ms"], mean_of(p, "error")) for p in found]
    assert on_the_front(points[:1], "error", "one_ms") == points[:1]
    assert on_the_front([], "error", "one_ms") == []


def test_a_mean_is_of_a_figure_or_of_a_function_of_each_run():
    point = {"runs": [{"error": 1.0}, {"error": 4.0}]}
    assert mean_of(point, "error") == 2.5 and mean_of(point, lambda run: run["error"] ** 2) == 8.5


def test_the_nonlinear_study_can_be_measured_with_its_own_corrections(monkeypatch):
    monkeypatch.setattr(front, "_times", lambda *given: {"one_ms": 1.0, "batch_ms": 1.0})
    study = Study("oscillator", f"{__name__}:short_oscillator", "cost_gap", (
        Variant("mlp", "mlp", small_mlp),), num_train=16, num_validation=4, num_test=8,
        corrections=corrections.of_the_oscillator("mlp"))
    network = small_mlp(short_oscillator().teacher, 0)
    found = front.measure_front(study, {"mlp": [network]}, runs._sets(study, (0,)))
    last = {point["name"]: point for point in found}  # after the most iterations
    assert len(last) == 1 + len(study.corrections)
    assert all(abs(mean_of(point, "cost_ratio") - 1) < 1e-6 for name, point in last.items()
               if name.endswith("_ilqr"))
    descent = [mean_of(point, "cost_ratio") for point in found if point["name"] == "mlp_descent"]
    assert all(after < before for before, after in itertools.pairwise(descent))


def short_oscillator():
    return PROBLEMS["weak_van_der_pol"](horizon=12)
