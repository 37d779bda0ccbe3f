"""Bad input: every public callable, with one or two arguments spoiled; refused by name, or answered rightly.

What is the inside of a loop and does not check (``dynamics``, ``predict``, ``jacobians``, costs and losses) is left out.
"""

import contextlib
import dataclasses
import functools
import inspect
import pathlib
import resource
import signal
import tempfile
import warnings
from collections.abc import Callable

import hypothesis
import numpy as np
import torch
from hypothesis import strategies as st

from tests.system.torture import oracles
from tests.system.torture.rows import Row
from tests.system.torture.values import NUMBERS, OBJECTS, PATHS, SWITCHES, WORDS, arrays
from trc_lib import course, evaluation, export, training
from trc_lib.costs import QuadraticCost
from trc_lib.course import experiments
from trc_lib.data import LQRDataset, generate_dataset, sample_states
from trc_lib.evaluation import closed_loop
from trc_lib.model import FinalError, TinyRecursiveControl, TRCConfig
from trc_lib.model.baselines import MLP, LinearMap, MLPConfig
from trc_lib.problems import PROBLEMS
from trc_lib.systems import DoubleIntegrator, LinearSystem, VanDerPol
from trc_lib.teachers import (
    BoundedMinimumEnergyController,
    ClippedLQR,
    IterativeLQR,
    MinimumEnergyController,
    SampledContinuousController,
)

SCRATCH = tempfile.TemporaryDirectory()
SECONDS, GIGABYTES = 20, 4  # that one call may take
STATES = (torch.rand(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5) * 2
TARGETS, CONTROLS = STATES.flip(0), torch.linspace(-1, 1, 15, dtype=torch.float64)[:, None].repeat(3, 1, 1)
SMALL = {"latent_dim": 8, "block_hidden": 8, "head_hidden": 8, "H_cycles": 2, "L_cycles": 1}


@dataclasses.dataclass(frozen=True)
class Call:
    """One public callable, arguments that are right, and what to put in their place.

    Attributes:
        run: the callable, taking keywords.
        good: its arguments.
        spoil: ``{argument: values}``.
        right: of the result and the arguments; None where the answer is right, else what is wrong.
        also: other names by which a message may speak of an argument.
    """

    name: str
    run: Callable
    good: dict
    spoil: dict
    right: Callable = oracles.finite
    also: dict = dataclasses.field(default_factory=dict)


@functools.cache
def calls():
    """The table of all calls."""
    cart, oscillator, third = DoubleIntegrator(), VanDerPol(), LinearSystem(
        [[1, 0.1, 0], [0, 1, 0.1], [0, 0, 0.9]], [[0, 0.1], [0.1, 0], [0.2, 0.3]], 0.1)
    Q, cost = [[10.0, 0.0], [0.0, 5.0]], QuadraticCost([[10.0, 0.0], [0.0, 5.0]], [[0.1]], [[200.0, 0.0], [0.0, 100.0]])
    teachers = {"exact": MinimumEnergyController(), "bounded": BoundedMinimumEnergyController(),
                "iterative": IterativeLQR(oscillator, 15, cost), "clipped": ClippedLQR(oscillator, 15, cost)}
    data, model = generate_dataset(24), TinyRecursiveControl(TRCConfig(**SMALL))
    mlp = MLP(MLPConfig(width=8))
    states, rest = arrays(STATES), (*OBJECTS, None)
    pair = {"initial_state": states, "target_state": states}
    problem = {"initial_state": STATES, "target_state": TARGETS}
    both = {"initial_state": ("target_state",), "target_state": ("initial_state",)}
    folder = pathlib.Path(SCRATCH.name)
    data.save(folder / "data.npz")
    model.save(folder / "model.pt")

    def reaches(controls, initial_state, target_state, system=cart):
        return oracles.arrives(controls, system, initial_state, target_state)

    def teaches(teacher, scale=1.0):
        x0, xT = scale * STATES, scale * TARGETS
        return oracles.arrives(teacher.solve(x0, xT), teacher.system, x0, xT)

    def improves(controls, initial_state, target_state):
        """Finite, within the limits, and no dearer than doing nothing."""
        if (wrong := oracles.finite(controls)) is not None:
            return wrong
        x0, xT = (torch.as_tensor(state, dtype=torch.float64) for state in (initial_state, target_state))
        spent, idle = (cost.of_controls(oscillator, x0, u, xT) for u in (controls, torch.zeros_like(controls)))
        return None if bool((spent <= idle).all()) and bool((controls.abs() <= 2).all()) else "is worse than doing nothing"

    def solved(dataset, **_):
        some = dataset[:1000]
        return oracles.arrives(some["controls"], dataset.system, some["initial_state"], some["target_state"])

    def drives(system, **_):
        return oracles.simulated(system.rollout(STATES, CONTROLS), system, STATES, CONTROLS)

    def drives_third(system, **_):
        x0, u = STATES[:, :1].repeat(1, 3), CONTROLS.repeat(1, 1, system.control_dim)
        return oracles.simulated(system.rollout(x0, u), system, x0, u)

    def drawn(states, num_samples, seed=0, state_dim=2, state_range=2.5, target_range=None):
        width = float(state_range), float(state_range if target_range is None else target_range)
        right = all(tuple(one.shape) == (num_samples, state_dim) and float(one.abs().max()) <= most
                    for one, most in zip(states, width))
        return oracles.finite(states) or (None if right else "has the wrong shape or range")

    def answers(result, initial_state, target_state, **_):
        shape = tuple(result["controls"].shape)
        return oracles.finite(result) or (None if shape == (len(initial_state), 15, 1) else f"has shape {shape}")

    def works(model, **_):
        return oracles.finite(model) or oracles.finite(model(STATES, TARGETS))

    def closes(result, steps, initial_state, noise=0.0, **_):
        loop_states, controls = result
        if controls.shape[-2] != steps:
            return "has the wrong length"
        return oracles.finite(result) or (noise == 0 and oracles.simulated(loop_states, cart, initial_state, controls)) or None

    def network(config):
        """Of a system that fits, so that the sizes may differ."""
        return TinyRecursiveControl(config, LinearSystem(torch.eye(config.state_dim), torch.ones(
            config.state_dim, config.control_dim), 0.1))

    def train(**words):
        student = words.pop("model", TinyRecursiveControl(TRCConfig(**SMALL)))
        return training.train(student, **{"train_set": data, "eval_set": data, "progress": False, "device": "cpu",
                                          "config": training.TrainConfig(epochs=1)} | words).rows

    fields = {name: NUMBERS for name in ("epochs", "batch_size", "lr", "weight_decay", "warmup", "clip_norm", "patience",
                                         "cycle_weight", "final_weight", "most_cycles", "seed")}
    fields |= {"objective": WORDS, "part": WORDS, "mixed_precision": SWITCHES, "compile": SWITCHES,
               "snapshot_epochs": (*NUMBERS, (1, "2"), [float("nan")], "12", {1: 2}, np.arange(3), [10**400], (-1,))}
    sizes = {name: NUMBERS for name in ("state_dim", "control_dim", "horizon", "latent_dim", "block_layers", "block_hidden",
                                        "head_hidden", "H_cycles", "L_cycles")}
    steps = {"horizon": NUMBERS}
    limits = (*NUMBERS, *arrays([1.0]))
    ctor = {"initial_states": data.initial_states, "target_states": data.target_states, "controls": data.controls,
            "teacher": data.teacher, "state_range": 2.5, "target_range": 2.5, "seed": 0}
    trace = {"initial_state": STATES, "target_state": TARGETS, "H_cycles": 2}
    return [
        Call("LinearSystem", LinearSystem, {"A": third.A, "B": third.B, "dt": 0.1, "control_limit": None},
             {"A": arrays(third.A), "B": arrays(third.B), "dt": NUMBERS, "control_limit": limits}, drives_third,
             {"A": ("initial_state",), "B": ("controls",)}),
        Call("DoubleIntegrator", DoubleIntegrator, {"dt": 0.33, "control_limit": None}, {"dt": NUMBERS, "control_limit": limits},
             drives),
        Call("VanDerPol", VanDerPol, {"mu": 1.0, "dt": 0.05, "control_limit": 2.0},
             {"mu": NUMBERS, "dt": NUMBERS, "control_limit": limits}, oracles.finite),
        Call("DoubleIntegrator.rollout", cart.rollout, {"initial_state": STATES, "controls": CONTROLS},
             {"initial_state": states, "controls": arrays(CONTROLS)}, functools.partial(oracles.simulated, system=cart)),
        Call("VanDerPol.rollout", oscillator.rollout, {"initial_state": STATES, "controls": CONTROLS},
             {"initial_state": states, "controls": arrays(CONTROLS)}, functools.partial(oracles.simulated, system=oscillator)),
        Call("LinearSystem.prediction_matrices", third.prediction_matrices, {"horizon": 5}, steps),
        Call("LinearSystem.controllability_matrix", third.controllability_matrix, {"horizon": 5}, steps),
        Call("QuadraticCost", QuadraticCost, {"Q": Q, "R": [[0.1]], "Q_final": Q},
             {"Q": arrays(Q), "R": arrays([[0.1]]), "Q_final": arrays(Q)}),
        Call("MinimumEnergyController", MinimumEnergyController, {"system": cart, "horizon": 15},
             {"system": (*OBJECTS, None, oscillator, LinearSystem([[1.0]], [[0.0]], 1.0), DoubleIntegrator(1e-8),
                         DoubleIntegrator(1e8)), **steps},
             lambda teacher, system, horizon: teaches(teacher)),
        Call("MinimumEnergyController of a dt", lambda dt, horizon: MinimumEnergyController(DoubleIntegrator(dt), horizon),
             {"dt": 0.33, "horizon": 15}, {"dt": NUMBERS, **steps}, lambda teacher, dt, horizon: teaches(teacher),
             also={"dt": ("system", "horizon"), "horizon": ("system",)}),
        Call("MinimumEnergyController.solve", teachers["exact"].solve, problem, pair, reaches, both),
        Call("SampledContinuousController", SampledContinuousController, {"system": cart, "horizon": 15},
             {"system": (*rest, oscillator, third), **steps},
             lambda teacher, **_: oracles.finite(teacher.solve(STATES, TARGETS))),
        Call("SampledContinuousController.solve", SampledContinuousController().solve, problem, pair, also=both),
        Call("SampledContinuousController.coefficients", SampledContinuousController().coefficients, problem, pair, also=both),
        Call("BoundedMinimumEnergyController", BoundedMinimumEnergyController,
             {"system": DoubleIntegrator(control_limit=9.0), "horizon": 15},
             {"system": (*OBJECTS, None, oscillator, cart), **steps},
             lambda teacher, **_: teaches(teacher, 1 / 9),
             {"horizon": ("target_state",)}),
        Call("BoundedMinimumEnergyController.solve", teachers["bounded"].solve, problem, pair,
             functools.partial(reaches, system=teachers["bounded"].system), both),
        Call("IterativeLQR", IterativeLQR, {"system": oscillator, "horizon": 15, "cost": cost, "success": 0.1},
             {"system": (*rest, third), **steps, "cost": rest, "success": NUMBERS},
             lambda teacher, **_: None, {"system": ("cost",)}),
        Call("IterativeLQR.solve", teachers["iterative"].solve, problem, pair, improves, both),
        Call("IterativeLQR.iterate", teachers["iterative"].iterate, {**problem, "guess": CONTROLS, "tolerance": 1e-9},
             {"guess": arrays(CONTROLS), "tolerance": NUMBERS}),
        Call("ClippedLQR", ClippedLQR, {"system": oscillator, "horizon": 15, "cost": cost},
             {"system": (*rest, third, VanDerPol(dt=1e-8)), **steps, "cost": rest},
             lambda teacher, **_: None, {"system": ("cost",)}),
        Call("ClippedLQR.solve", teachers["clipped"].solve, problem, pair, also=both),
        Call("sample_states", sample_states,
             {"num_samples": 5, "seed": 0, "state_dim": 2, "state_range": 2.5, "target_range": None},
             {name: NUMBERS for name in ("num_samples", "seed", "state_dim", "state_range", "target_range")}, drawn),
        Call("generate_dataset", generate_dataset,
             {"num_samples": 5, "seed": 0, "teacher": None, "state_range": 2.5, "target_range": None},
             {"teacher": (*OBJECTS, teachers["bounded"]), **{name: NUMBERS for name in (
                 "num_samples", "seed", "state_range", "target_range")}}, solved,
             {"state_range": ("initial_state",), "target_range": ("target_state",)}),
        Call("generate_dataset, iterative", functools.partial(generate_dataset, 3, teacher=teachers["iterative"]),
             {"state_range": 0.5, "target_range": 0.0}, {"state_range": NUMBERS, "target_range": NUMBERS},
             also={"state_range": ("initial_state",), "target_range": ("target_state",)}),
        Call("LQRDataset", LQRDataset, ctor,
             {"initial_states": arrays(data.initial_states), "target_states": arrays(data.target_states),
              "controls": arrays(data.controls), "teacher": rest, "state_range": NUMBERS, "target_range": NUMBERS,
              "seed": NUMBERS},
             lambda dataset, **_: dataset.save(folder / "made.npz") or oracles.finite(LQRDataset.load(folder / "made.npz"))),
        Call("LQRDataset.load", LQRDataset.load, {"path": folder / "data.npz"}, {"path": PATHS}),
        Call("LQRDataset.save", lambda path: data.save(path), {"path": folder / "data.npz"}, {"path": PATHS[:-6]}),
        Call("TRCConfig", lambda **words: network(TRCConfig(**{**SMALL, **words})), {}, sizes, works),
        Call("create_two_level", TinyRecursiveControl.create_two_level,
             {"size": "small", "system": None, "seed": 0, "feedback": None},
             {"size": WORDS, "system": (*OBJECTS, third, oscillator), "seed": NUMBERS, "feedback": OBJECTS}, works),
        Call("TinyRecursiveControl", TinyRecursiveControl,
             {"config": TRCConfig(**SMALL), "system": None, "seed": 0, "feedback": None},
             {"config": (*rest, MLPConfig()), "system": (*OBJECTS, third), "seed": NUMBERS,
              "feedback": (*OBJECTS, FinalError(third))}, works),
        Call("TinyRecursiveControl.forward", model, trace, {**pair, "H_cycles": NUMBERS}, answers, both),
        Call("TinyRecursiveControl.trace", model.trace, trace, {**pair, "H_cycles": NUMBERS}, also=both),
        Call("TinyRecursiveControl.solve", model.solve, problem, pair, also=both),
        Call("TinyRecursiveControl.set_scaling", lambda dataset: TinyRecursiveControl(TRCConfig(**SMALL)).set_scaling(dataset),
             {"dataset": data}, {"dataset": (*rest, generate_dataset(3, teacher=MinimumEnergyController(third)))}),
        Call("TinyRecursiveControl.load", TinyRecursiveControl.load, {"path": folder / "model.pt", "device": "cpu"},
             {"path": PATHS, "device": WORDS}),
        Call("LinearMap", LinearMap, {"dataset": data}, {"dataset": rest}),
        Call("LinearMap.solve", LinearMap(data).solve, problem, pair, also=both),
        Call("MLPConfig", lambda **words: MLPConfig(**words), {},
             {name: NUMBERS for name in ("state_dim", "control_dim", "horizon", "width", "depth")}),
        Call("MLP", MLP, {"config": MLPConfig(width=8), "system": None, "seed": 0},
             {"config": (*rest, TRCConfig()), "system": (*OBJECTS, third), "seed": NUMBERS}, works),
        Call("MLP.within", MLP.within, {"numbers": 5000, "seed": 0, "depth": 2},
             {"numbers": NUMBERS, "seed": NUMBERS, "depth": NUMBERS}, works, {"depth": ("numbers",)}),
        Call("MLP.forward", mlp, {**problem, "H_cycles": None}, {**pair, "H_cycles": NUMBERS}, answers, both),
        Call("final_error", evaluation.final_error, {"system": cart, **problem, "controls": CONTROLS},
             {"system": rest, **pair, "controls": arrays(CONTROLS)},
             also={"initial_state": ("target_state", "controls"), "target_state": ("initial_state", "controls"),
                   "controls": ("initial_state",)}),
        Call("decompose_error", evaluation.decompose_error,
             {"system": cart, "controls": CONTROLS, "optimal_controls": CONTROLS * 2},
             {"system": (*rest, oscillator), "controls": arrays(CONTROLS), "optimal_controls": arrays(CONTROLS)},
             also={"controls": ("optimal_controls",)}),
        Call("measure", evaluation.measure, {"dataset": data, "controls": data.controls / 2},
             {"dataset": rest, "controls": arrays(data.controls)}),
        Call("cycle_controls", evaluation.cycle_controls, {"model": model, "dataset": data, "H_cycles": None, "batch_size": 10},
             {"model": rest, "dataset": rest, "H_cycles": NUMBERS, "batch_size": NUMBERS}),
        Call("evaluate", evaluation.evaluate, {"model": model, "dataset": data, "H_cycles": None},
             {"model": rest, "dataset": rest, "H_cycles": NUMBERS}),
        Call("multiply_adds", experiments.multiply_adds, {"model": model}, {"model": rest}),
        Call("closed_loop", closed_loop, {"planner": teachers["exact"].solve, "plant": cart, **problem, "steps": 6, "every": 2,
                                          "noise": 0.0, "seed": 0},
             {"planner": (*rest[:-3], lambda x, y: None, lambda x, y: x), "plant": rest, **pair, "steps": NUMBERS,
              "every": NUMBERS, "noise": NUMBERS, "seed": NUMBERS},
             closes, {**both, "steps": ("planner", "every"), "every": ("planner",),
                      "noise": ("state", "steps", "initial_state")}),
        *(Call(f"PROBLEMS[{name}]", make, {}, {option: NUMBERS for option in inspect.signature(make).parameters
                                               if option != "control_limit"},
               also={"dt": ("system", "horizon"), "horizon": ("system",)}, right=lambda made, **_: None)
          for name, make in PROBLEMS.items()),
        Call("Problem.dataset", PROBLEMS["double_integrator"]().dataset, {"num_samples": 5, "seed": 0},
             {"num_samples": NUMBERS, "seed": NUMBERS}, solved),
        Call("TrainConfig", lambda **words: training.TrainConfig(**words), {}, fields),
        Call("train", train, {}, {"model": OBJECTS, "train_set": rest, "eval_set": rest, "config": (*rest, TRCConfig()),
                                  "folder": [path for path in PATHS[2:-2] if path != "/"], "device": WORDS,
                                  "resume": SWITCHES, "progress": SWITCHES,
                                  "on_epoch": OBJECTS[:-2]}),
        Call("load_snapshots", training.load_snapshots, {"path": folder / "none"}, {"path": PATHS}),
        Call("epochs_kept", training.epochs_kept, {"folder": folder}, {"folder": PATHS}),
        Call("choose_preset", course.choose_preset, {"name": "smoke", "seed": 0, "feedback": True, "epochs": 1, "lr": 1e-3},
             {"name": WORDS, "seed": NUMBERS, "feedback": SWITCHES, "epochs": NUMBERS, "lr": NUMBERS},
             lambda lane, **_: None, {"name": ("lane",)}),
        Call("pretrained", course.pretrained, {"name": "two_level_medium"}, {"name": WORDS}),
        Call("load_results", experiments.load_results, {"name": "sweep"}, {"name": WORDS}),
        Call("export_onnx", export.export_onnx, {"model": model, "path": folder / "model.onnx", "H_cycles": None},
             {"model": rest, "H_cycles": [value for value in NUMBERS if not isinstance(value, np.number | int | None)]}),
    ]


class Hung(BaseException):
    """A call took too long; no library may catch this one."""


@contextlib.contextmanager
def guarded():
    """A deadline and a limit of the memory for what runs inside."""
    def late(*_):
        raise Hung

    before, (soft, hard) = signal.signal(signal.SIGALRM, late), resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GIGABYTES * 2**30, hard))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def judge(call, spoiled):
    """Make one call: ("refused" or "answered", None), or ("", what is wrong)."""
    arguments = {**call.good, **spoiled}
    words = {word for name in spoiled for word in (name, *call.also.get(name, ()))}
    try:
        # In the scratch folder, so that a relative path that is accepted writes nowhere else.
        with contextlib.chdir(SCRATCH.name), guarded(), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            result = call.run(**arguments)
            wrong = call.right(result, **arguments)
    except (ValueError, TypeError) as error:
        said = str(error)
        named = any(word in said for word in words) or _is_path(spoiled, said)
        return ("refused", None) if named else ("", f"{type(error).__name__} that names nothing: {said[:150]}")
    except OSError as error:
        return ("refused", None) if _is_path(spoiled, str(error)) else ("", f"{type(error).__name__}: {str(error)[:150]}")
    except Hung:
        return "", f"took more than {SECONDS} s"
    except Exception as error:
        return "", f"{type(error).__name__}: {str(error)[:150]}"
    return ("answered", None) if wrong is None else ("", wrong)


def _is_path(spoiled, said):
    """Whether a message shows the path that was asked for, where there is one."""
    return any(name in spoiled and (str(spoiled[name])[:20] in said) for name in ("path", "folder", "name"))


def _brief(call, spoiled, failure):
    def shown(value):
        kind = f"{value.dtype} {list(value.shape)} " if torch.is_tensor(value) else ""
        return kind + " ".join(repr(value).split())[:60]

    return f"{call.name}({', '.join(f'{name}={shown(value)}' for name, value in spoiled.items())}): {failure}"


def one_by_one(advance=lambda: None, some=None):
    """Every value of the pools in the place of every argument; of a random ``some`` of them if that is given."""
    row = Row("bad input", "one argument spoiled, every value of the pools")
    cases = [(call, {name: value}) for call in calls() for name, values in call.spoil.items() for value in values]
    if some is not None:
        cases = [cases[i] for i in np.random.default_rng(0).permutation(len(cases))[:some]]
    for call, spoiled in cases:
        outcome, failure = judge(call, spoiled)
        row.add(outcome, failure and _brief(call, spoiled, failure))
        advance()
    return row


@st.composite
def spoiled_calls(draw):
    """A call with one or two arguments spoiled, by the pools or by what hypothesis thinks of."""
    call = draw(st.sampled_from(calls()))
    names = draw(st.lists(st.sampled_from(sorted(call.spoil)), min_size=1, max_size=2, unique=True))
    made = st.one_of(st.floats(), st.integers(-10, 64), st.integers(10**9), st.text(max_size=5), st.complex_numbers(),
                     st.lists(st.one_of(st.floats(), st.none()), max_size=3))
    values = {}
    for name in names:
        pool = call.spoil[name]
        fits = pool is NUMBERS or pool is WORDS
        values[name] = draw(st.one_of(st.integers(0, len(pool) - 1).map(pool.__getitem__), *((made,) if fits else ())))
    return call, values


def by_hypothesis(tries, advance=lambda: None):
    """As many cases as asked for, the same in every run."""
    row = Row("bad input", "one or two arguments spoiled, by hypothesis")

    @hypothesis.settings(max_examples=tries, derandomize=True, deadline=None, database=None,
                         suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate])
    @hypothesis.given(spoiled_calls())
    def attempt(case):
        outcome, failure = judge(*case)
        row.add(outcome, failure and _brief(*case, failure))
        advance()

    attempt()
    return row
