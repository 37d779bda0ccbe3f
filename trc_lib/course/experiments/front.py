"""Error against time: who is best after how many milliseconds, for one problem and for a batch."""

import dataclasses
import importlib.util
import pathlib
import statistics
import tempfile
import time

import numpy as np
import torch
from tqdm.auto import tqdm

from trc_lib.course.experiments.corrections import STARTS
from trc_lib.evaluation import measure
from trc_lib.export import export_onnx
from trc_lib.training.compute import one_thread

BATCH = 4096   # problems that are solved together
SINGLE = 24    # problems that are solved one after the other, for the time of one
SECONDS = 0.3  # of each measurement, at least
ROUNDS = 3     # in which all are timed one after the other; the least time of each counts
KEPT = ("control_mse", "terminal_error", "excess_energy", "cost_ratio", "success_rate",
        "final_error_mean", "final_error_p99", "final_error_max")


def measure_front(study, networks, sets):
    """The points of a study: every network, and every correction after each number of iterations.

    Everything is timed in this process, on one core, and by the fastest implementation that there
    is: PyTorch or ONNX Runtime for networks, PyTorch or NumPy for corrections. The time of a guess
    counts. All are timed in several rounds, and the least time counts: what is above it is other
    work on the machine.

    Args:
        study: a `Study`.
        networks: by name of its variants, the trained networks, one a seed; None where one failed.
        sets: training, validation and test problems of each seed.

    Returns:
        dicts with ``name``, ``label``, ``kind`` ("network" or "correction"), ``iterations``,
        ``one_ms`` and ``batch_ms`` (a problem of a batch of 4,096), and in ``runs`` the figures of
        each seed.
    """
    test_set = sets[0][-1]
    problems = test_set.initial_states, test_set.target_states
    labels = {variant.name: variant.label for variant in study.variants}
    points, solvers, fast = [], [], {}  # of each point, the functions for a batch and for one
    for name, several in tqdm(networks.items(), "front: networks", disable=None):
        trained = [each for each in several if each is not None]
        if not trained:
            continue
        with one_thread():
            fast[name] = _Fast(trained[0])
            points.append({"name": name, "label": labels[name], "kind": "network", "iterations": 0,
                           "runs": [_kept(study, test_set, each.solve(*problems))
                                    for each in trained]})
            solvers.append((fast[name].batch, fast[name].one))
    usable = [each for each in study.corrections if (each.start in STARTS or each.start in fast)
              and (each.package is None or importlib.util.find_spec(each.package))]
    for correction in tqdm(usable, "front: corrections", disable=None):
        with one_thread():
            for point, functions in _of_correction(study, correction, networks, fast, sets):
                points.append(point)
                solvers.append(functions)
    with one_thread():
        for point, functions in tqdm(ROUNDS * list(zip(points, solvers)), "front: times",
                                     disable=None):
            for clock, taken in _times(problems, *functions).items():
                point[clock] = min(taken, point.get(clock, taken))
    return points


def _of_correction(study, correction, networks, fast, sets):
    """The points of one correction, one for each number of iterations, and what is to be timed."""
    test_set = sets[0][-1]
    teacher, problems = test_set.teacher, (test_set.initial_states, test_set.target_states)
    one = None if correction.one is None else correction.one(teacher)
    refine = _one_by_one(one) if correction.refine is None else correction.refine(teacher)
    if correction.start in networks:
        solvers = [each.solve for each in networks[correction.start] if each is not None]
        start_one, start_batch = fast[correction.start].one, fast[correction.start].batch
    else:
        makers = sets if correction.start in ("linear map", "nearest neighbour") else sets[:1]
        solvers = [STARTS[correction.start](teacher, train_set) for train_set, *_ in makers]
        start_batch = solvers[0]

        def start_one(x0, xT):
            return start_batch(*(torch.from_numpy(state)[None] for state in (x0, xT)))[0].numpy()

        if correction.start == "nothing":
            nothing = np.zeros((teacher.horizon, teacher.system.control_dim))

            def start_one(x0, xT):
                return nothing
    guesses = [solve(*problems) for solve in solvers]
    for iterations in correction.iterations:

        def solve_one(x0, xT, iterations=iterations):
            return one(x0, xT, start_one(x0, xT), iterations)

        def solve_batch(x0, xT, iterations=iterations):
            return refine(x0, xT, start_batch(x0, xT), iterations)

        yield ({"name": correction.name, "label": correction.label, "kind": "correction",
                "iterations": iterations,
                "runs": [_kept(study, test_set, refine(*problems, guess, iterations))
                         for guess in guesses]},
               (None if correction.refine is None else solve_batch,
                None if one is None else solve_one))


def _one_by_one(one):
    """The function for a batch of which there is only one for a single problem."""
    def refine(x0, xT, guess, iterations):
        return torch.from_numpy(np.stack([
            one(*problem, iterations) for problem in zip(x0.numpy(), xT.numpy(), guess.numpy())]))
    return refine


def _kept(study, test_set, controls):
    figures = dataclasses.asdict(measure(test_set, controls))
    kept = {name: figures[name] for name in KEPT}
    return kept if study.judge is None else kept | study.judge(test_set, controls, iterations=0)


class _Fast:
    """A network in the implementation that is fastest for one problem, and for a batch."""

    def __init__(self, model):
        self.model, self.session = model, None
        if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnxscript"):
            self.session = _session(model)
        rows = torch.ones(BATCH, model.config.state_dim, dtype=torch.float64)
        first = rows[0].numpy()
        self.one = min((self._torch_one, self._onnx_one) if self.session else (self._torch_one,),
                       key=lambda solve: _seconds(lambda: solve(first, first)))
        self.batch = min((self._torch, self._onnx) if self.session else (self._torch,),
                         key=lambda solve: _seconds(lambda: solve(rows, rows)))

    @torch.no_grad()  # not inference_mode, whose tensors the compiled loops over time refuse
    def _torch(self, x0, xT):
        return self.model.predict(x0.float(), xT.float())["controls"].double()

    def _torch_one(self, x0, xT):
        return self._torch(torch.from_numpy(x0)[None], torch.from_numpy(xT)[None])[0].numpy()

    def _onnx(self, x0, xT):
        given = {"initial_state": x0.float().numpy(), "target_state": xT.float().numpy()}
        return torch.from_numpy(self.session.run(None, given)[0]).double()

    def _onnx_one(self, x0, xT):
        given = {"initial_state": x0[None].astype(np.float32),
                 "target_state": xT[None].astype(np.float32)}
        return self.session.run(None, given)[0][0].astype(float)


def _session(model):
    """The network in ONNX Runtime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "network.onnx"
        export_onnx(model, path)
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _times(problems, batch, one):
    """Milliseconds of one problem by itself, and of one of a batch; one of the two may be None."""
    x0, xT = (states.repeat(-(-BATCH // len(states)), 1)[:BATCH] for states in problems)

    def batch_of_one(start, target):
        return batch(*(torch.from_numpy(state)[None] for state in (start, target)))

    singles = [(start.numpy(), target.numpy()) for start, target in zip(x0[:SINGLE], xT[:SINGLE])]
    one_ms = 1e3 / SINGLE * min(
        _seconds(lambda solve=solve: [solve(*problem) for problem in singles])
        for solve in (one, batch and batch_of_one) if solve is not None)
    batch_ms = one_ms if batch is None else 1e3 / BATCH * _seconds(lambda: batch(x0, xT))
    return {"one_ms": float(f"{one_ms:.3g}"), "batch_ms": float(f"{min(batch_ms, one_ms):.3g}")}


def _seconds(call):
    """The least time of a call."""
    call()  # compiles and caches what there is
    taken = []
    while sum(taken) < SECONDS or not taken:
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return min(taken)


def on_the_front(points, figure, clock):
    """The points that no other one beats in both, time and figure, from fast to slow.

    Args:
        points: as `measure_front` returns them.
        figure: name of a figure of its runs, or a function of a run; their mean counts.
        clock: ``"one_ms"`` or ``"batch_ms"``.
    """
    front = []
    for point in sorted(points, key=lambda point: (point[clock], mean_of(point, figure))):
        if not front or mean_of(point, figure) < mean_of(front[-1], figure):
            front.append(point)
    return front


def mean_of(point, figure):
    """The mean of a figure over a point's runs."""
    value = figure if callable(figure) else lambda run: run[figure]
    return statistics.fmean(value(run) for run in point["runs"])
