"""Answers to chapter 8's exercises: right ones, and wrong ones with a part of the message."""

import copy

import numpy as np
import scipy.optimize
import torch

from trc_lib.course.exercises import bounded as checks
from trc_lib.systems import DoubleIntegrator
from trc_lib.teachers import BoundedMinimumEnergyController
from trc_lib.training import TrainConfig, train

# ------------------------------------------------------------------ certificate

def proves(y, C, d, u_max):
    return y @ d > u_max * np.abs(C.T @ y).sum()


def certificate(C, d, u_max):
    """By Newton's method, until its multiplier is a proof."""
    lam = np.linalg.solve(C @ C.T, d)
    while not proves(lam, C, d, u_max):
        line = C.T @ lam
        u, free = line.clip(-u_max, u_max), np.abs(line) < u_max
        lam = lam - np.linalg.solve((C * free) @ C.T, C @ u - d)
    return lam


def by_programme(C, d, u_max):
    """The largest y'd - u_max |C'y| with each component of y within 1: [y, |C'y|] -> y."""
    n, N = C.shape
    cost = np.r_[-d, u_max * np.ones(N)]
    rows = np.block([[C.T, -np.eye(N)], [-C.T, -np.eye(N)]])
    return scipy.optimize.linprog(cost, rows, np.zeros(2 * N),
                                  bounds=[(-1, 1)] * n + [(0, None)] * N).x[:n]


def as_a(kind, function):
    return lambda *given: kind(function(*given))


def in_place(C, d, u_max):
    C *= 2
    return certificate(C / 2, d, u_max)


def after_one_step(C, d, u_max):
    """The first λ, or the one after a single step, untested."""
    y = np.linalg.solve(C @ C.T, d)
    if y @ d > u_max * np.abs(C.T @ y).sum():
        return y
    u, free = (C.T @ y).clip(-u_max, u_max), C * (np.abs(C.T @ y) < u_max)
    return y - np.linalg.solve(free @ C.T, C @ u - d)


# ------------------------------------------------------------------ weakest

CART = DoubleIntegrator()
COLUMNS = CART.controllability_matrix(15).numpy()


def wanted(start, target):
    return (target - torch.linalg.matrix_power(CART.A, 15) @ start).numpy()


def weakest(start, target, rounds=40, low=1e-3, high=4.0):
    """By bisection with the teacher, and Newton's multiplier."""
    for _ in range(rounds):
        middle = (low + high) / 2
        teacher = BoundedMinimumEnergyController(DoubleIntegrator(control_limit=middle))
        if bool(teacher.try_solve(start, target)[1]):
            high = middle
        else:
            low = middle
    return high, certificate(COLUMNS, wanted(start, target), 0.999 * high)


def weakest_by_directions(start, target):
    """The largest y'd / |C'y| of all directions, on finer and finer grids of angles."""
    d, middle, width = wanted(start, target), 0.0, np.pi
    for _ in range(12):
        angles = middle + width * np.linspace(-1, 1, 721)
        y = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        ratios = (y @ d) / np.abs(y @ COLUMNS).sum(axis=1)
        middle, width = angles[ratios.argmax()], width / 100
    return [ratios.max(), y[ratios.argmax()].tolist()]


def changed(limit="limit", y="y"):
    """The right answer, changed by expressions."""
    def answer(start, target):
        d = wanted(start, target)
        names = dict(zip(("limit", "y"), weakest_by_directions(start, target)))
        names |= {"np": np, "d": d, "y": np.array(names["y"]),
                  "line": np.abs(COLUMNS.T @ np.linalg.solve(COLUMNS @ COLUMNS.T, d)).max()}
        return eval(limit, names), eval(y, names)
    return answer


# ------------------------------------------------------------------ propose_then_refine

def trained(*trainings):
    """Trains the network once for each dict of settings."""
    def answer(network, train_set, eval_set):
        for each in trainings:
            train(network, train_set, eval_set, TrainConfig(**each), progress=False)
        return network
    return answer


def on_a_copy(answer):
    return lambda network, *sets: answer(copy.deepcopy(network), *sets)


PROPOSE = {"part": "proposal", "epochs": 20, "lr": 0.016}
REFINE = {"part": "cycles", "epochs": 5, "lr": 2e-3, "objective": "rms", "cycle_weight": 1.0}
ALL = {"epochs": 10, "lr": 4e-3, "objective": "rms", "cycle_weight": 1.0}

def pasted(C, d, u_max):
    """Chapter 8's cell as it is, whose limit is 1, for six steps."""
    y = np.linalg.solve(C @ C.T, d)
    for _ in range(6):
        if y @ d > u_max * np.abs(C.T @ y).sum():
            break
        moving = C * (np.abs(C.T @ y) < 1)
        if np.linalg.matrix_rank(moving) < len(d):
            break
        y = y - np.linalg.solve(moving @ C.T, C @ (C.T @ y).clip(-1, 1) - d)
    return y


RIGHT = {
    checks.certificate: [
        certificate,
        by_programme,
        as_a(list, certificate),
        as_a(lambda y: torch.tensor(1e3 * y, dtype=torch.float32), certificate),
    ],
    checks.weakest: [
        weakest,
        weakest_by_directions,
        changed(limit="np.array([limit])", y="tuple(5 * y)"),
        changed(limit="limit * (1 + 1e-6)", y="y.astype('float32')"),
    ],
    checks.propose_then_refine: [
        trained(PROPOSE, REFINE),
        on_a_copy(trained(PROPOSE, REFINE)),
        trained(PROPOSE | {"epochs": 25, "lr": 8e-3}, REFINE | {"lr": 0.016, "objective": "mse"}),
        trained(PROPOSE, REFINE | {"part": "all"}),  # where its plans end decides, and not the way
    ],
}

WRONG = {
    checks.certificate: [
        (lambda C, d, u_max: np.zeros(len(d)), "y is zero"),
        (lambda C, d, u_max: -certificate(C, d, u_max), "-y proves it"),
        (after_one_step, "For d = [10.0, 4.5]"),
        (lambda C, d, u_max: np.roll([1.0, *d[1:]], 1)[:len(d)] * [1, -1, 1][:len(d)],
         "proves nothing"),
        (lambda C, d, u_max: np.linalg.solve(C @ C.T, d), "d = [12.8, 4.5]"),
        (pasted, "u_max = 0.5"),
        (lambda C, d, u_max: C.T @ d, "for each step"),
        (lambda C, d, u_max: True, "it should have [2]"),
        (in_place, "C was changed in place"),
    ],
    checks.weakest: [
        (changed(limit="line"), "no clipping"),
        (changed(limit="4 * abs(d[0]) / 4.95**2"), "held for whole steps"),
        (changed(limit="0.99 * limit"), "there is no way"),
        (changed(limit="1.001 * limit"), "so is less"),
        (changed(limit="-limit"), "above zero"),
        (changed(y="-y"), "-y proves it"),
        (changed(y="0 * y"), "y is zero"),
        (changed(y="np.array([1.0, 0.0])"), "proves nothing"),
        (lambda start, target: weakest(start, target, high=1.0), "From [-4.0, 0.0]"),
        (lambda start, target: weakest_by_directions(start, target)[0], "two things"),
        (lambda start, target: weakest_by_directions(start, target)[::-1], "are swapped"),
        (lambda start, target: [torch.tensor(each) for each in weakest(start, target)[::-1]],
         "are swapped"),
    ],
    checks.propose_then_refine: [
        (lambda network, train_set, eval_set: network, "too bad"),
        (lambda network, train_set, eval_set: network.state_dict(), "Return the trained network"),
        (trained(PROPOSE), "little or nothing"),
        (trained(REFINE), "too bad"),
        (trained(PROPOSE | {"epochs": 4, "lr": 1e-4}, REFINE), "too bad"),
        (trained(REFINE | {"lr": 1e-3}, PROPOSE), "0.03 is asked for"),
        (on_a_copy(trained(REFINE | {"lr": 1e-3}, PROPOSE)), "0.03 is asked for"),
        (on_a_copy(trained(ALL)), "too bad"),
    ],
}
