"""Numbers: the same on one thread and two, and in another process; and from ill-conditioned problems right or none."""

import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile

import torch

from tests import ROOT
from tests.system.torture import oracles
from tests.system.torture.rows import Row
from trc_lib.costs import QuadraticCost
from trc_lib.systems import DoubleIntegrator, LinearSystem, VanDerPol
from trc_lib.teachers import BoundedMinimumEnergyController, IterativeLQR, MinimumEnergyController

TOLERANCE = 1e-3   # on the losses of a training on two threads over that on one, relative: sums in another order, for 8 epochs
WITHIN = 1e-6      # of the target, relative to the size of the problem where that is above one
MAKE = """
import hashlib, json, pathlib, sys, torch
from trc_lib import io
from trc_lib.data import generate_dataset
from trc_lib.model import TinyRecursiveControl
from trc_lib.problems import PROBLEMS
from trc_lib.training import TrainConfig, train
torch.set_num_threads(int(sys.argv[1]))
path, made = pathlib.Path(sys.argv[2]), {}
for name, num_samples in (("double_integrator", 50_000), ("bounded_inputs", 5_000), ("van_der_pol", 200)):
    PROBLEMS[name]().dataset(num_samples, 3).save(path)
    made[name] = hashlib.sha256(path.read_bytes()).hexdigest()
data = generate_dataset(2_048, 5)
for batch_size in (64, 512):
    model = TinyRecursiveControl.create_two_level_small()
    history = train(model, data, data, TrainConfig(epochs=4, batch_size=batch_size), device="cpu", progress=False)
    made[f"batches of {batch_size}"] = {"losses": history["eval_loss"], "weights": io.fingerprint(dict(model.state_dict()))}
print(json.dumps(made))
"""


def _made(threads, hash_seed):
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run([sys.executable, "-c", MAKE, str(threads), f"{folder}/data.npz"], env=env, cwd=ROOT, text=True,
                               capture_output=True, check=True)
    return json.loads(ended.stdout)


def threads_and_processes(tries, advance=lambda: None):
    """Datasets and trainings of one seed, made by fresh processes with one thread and with two."""
    data, training = Row("numbers", "dataset bytes: 1 and 2 threads, other processes"), Row(
        "numbers", "training: 1 and 2 threads, other processes")
    first = _made(1, 0)
    for k in range(tries):
        threads = 2 - k % 2
        made = _made(threads, k + 1)
        for name in first:
            if not name.startswith("batches"):
                data.add("same bytes", None if made[name] == first[name] else f"{name} on {threads} threads: other bytes")
                continue
            off = max(abs(a / b - 1) for a, b in zip(made[name]["losses"], first[name]["losses"]))
            same = made[name]["weights"] == first[name]["weights"]
            wrong = (threads == 1 and not same) or not off <= TOLERANCE  # the same number of threads: the same bits
            training.add("bit-equal" if same else f"within {TOLERANCE}",
                         f"{name} on {threads} threads: off by {off:.0e}" if wrong else None)
        advance()
    return [data, training]


def ill_conditioned(advance=lambda: None):
    """Horizons to 1000, steps of 1e-6 s to 100 s, unstable and stiff systems: reaches its target within 1e-6, or is refused."""
    row = Row("numbers", "ill-conditioned problems: within 1e-6, or refused")
    unit = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1], [-2.5, 2.5]], dtype=torch.float64)
    steps = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.33, 3.0, 100.0)
    cases = [(f"horizon {N}, dt {dt:g}", dt, N, lambda dt: DoubleIntegrator(dt)) for N, dt in itertools.product(
        (2, 3, 15, 50, 200, 1000), steps)]
    cases += [(f"unstable {growth:g}, horizon {N}", growth, N, lambda growth: LinearSystem(
        [[growth, 0.1], [0.0, 1.0]], [[0.0], [0.1]], 0.1)) for growth, N in itertools.product((1.1, 2.0, 5.0), (15, 200))]
    cases += [(f"stiff {small:g}, horizon {N}", small, N, lambda small: LinearSystem(
        [[1.0, small], [0.0, 0.5]], [[0.0], [1.0]], 0.1)) for small, N in itertools.product((1e-3, 1e-7, 1e-11), (15, 200))]
    for name, value, horizon, make in cases:
        _judge(row, f"exact, {name}", functools.partial(_exact, make, value, horizon), unit)
        advance()
    for horizon, dt in itertools.product((2, 15, 200), steps):
        def bounded(dt=dt, horizon=horizon):
            return BoundedMinimumEnergyController(DoubleIntegrator(dt, control_limit=1.0), horizon)

        reach = horizon * dt * min(1, horizon * dt)  # so that most can be reached
        _judge(row, f"bounded, horizon {horizon}, dt {dt:g}", bounded, 0.01 * reach * unit)
        advance()
    return row


def _exact(make, value, horizon):
    return MinimumEnergyController(make(value), horizon)


def _judge(row, name, make, states):
    try:
        teacher = make()
        x0, xT = states, states.flip(0)
        controls, solved = teacher.try_solve(x0, xT)
    except ValueError:
        row.add("refused")
        return
    wrong = oracles.arrives(controls[solved], teacher.system, x0[solved], xT[solved], WITHIN)
    row.add("reached" if bool(solved.any()) else "refused", wrong and f"{name}: {wrong}")


def gradients_of_ill_conditioned_costs(advance=lambda: None):
    """The iterative teacher from 1e-4 s to 1 s a step: no step it can think of lowers the cost of what it calls solved."""
    row = Row("numbers", "iterative teacher: a minimum, or refused")
    starts = torch.tensor([[1.0, 0.0], [-2, 2], [0.1, 0.1]], dtype=torch.float64)
    for horizon, dt, weight in itertools.product((10, 200), (1e-4, 1e-3, 0.05, 1.0), (1e-6, 1.0, 1e6)):
        eye = torch.eye(2, dtype=torch.float64)
        cost = QuadraticCost(eye, [[0.1]], weight * eye)
        teacher = IterativeLQR(VanDerPol(dt=dt), horizon, cost)
        controls, solved = teacher.try_solve(starts, torch.zeros_like(starts))
        for x0, u in zip(starts[solved], controls[solved]):
            row.add("a minimum", f"horizon {horizon}, dt {dt:g}, weight {weight:g}: it can be lowered"
                    if _lower(cost, teacher.system, x0, u) else None)
        for _ in range(int((~solved).sum())):
            row.add("refused")
        advance()
    return row


def _lower(cost, system, x0, u):
    """Whether a nudge of the controls, down the slope or at random, lowers the cost by more than rounding."""
    def total(controls):
        off = oracles.driven(system, x0, controls).astype(float)
        Q, R, last = (matrix.numpy() for matrix in (cost.Q, cost.R, cost.Q_final))
        return float(sum(x @ Q @ x for x in off[:-1]) + off[-1] @ last @ off[-1] + sum(v @ R @ v for v in controls.numpy()))

    least, generator = total(u), torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-1):
        for _ in range(3):
            nudge = size * torch.randn(u.shape, generator=generator, dtype=torch.float64)
            if total((u + nudge).clamp(-2, 2)) < least * (1 - 1e-6):
                return True
    return False
