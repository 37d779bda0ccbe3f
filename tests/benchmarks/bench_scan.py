"""Loops over time, compiled and in Python side by side, and how the cost of solving grows."""

import contextlib
import unittest.mock

import numpy as np
import torch

import trc_lib.scan
from tests.benchmarks.bench_training import memory_of
from tests.benchmarks.timing import seconds, threads
from trc_lib.costs import QuadraticCost
from trc_lib.course.workspace import pretrained
from trc_lib.data import sample_states
from trc_lib.problems import van_der_pol
from trc_lib.systems import System, VanDerPol
from trc_lib.teachers import IterativeLQR

AIMS = {"roll-out of one problem": 0.3, "its gradient": 0.3, "chapter 9's network, one problem": 2.0,
        "iterative LQR from nothing, one problem": 8.0}  # milliseconds on one core
BATCH_AIM = 4.0  # seconds for 4,000 problems of the oscillator on two cores


@contextlib.contextmanager
def in_python():
    """Loops over time run in Python, as where nothing can be compiled."""
    with unittest.mock.patch.object(trc_lib.scan, "is_plain", lambda tensors: False):
        yield


class Chain(System):
    """Masses in a row on springs that harden; the force is on the first. For any even number of states."""

    def __init__(self, state_dim):
        super().__init__(state_dim, 1, 0.05, 2.0)

    def dynamics(self, state, control):
        place, speed = state.chunk(2, dim=-1)
        behind = torch.cat([torch.zeros_like(place[..., :1]), place[..., :-1]], dim=-1)
        force = behind - 2 * place - 0.1 * place**3
        push = torch.cat([control, torch.zeros_like(place[..., 1:])], dim=-1)
        speed = speed + self.dt * (force + push)
        return torch.cat([place + self.dt * speed, speed], dim=-1)


def tasks():
    """What the aims are for: ``{name: call}``, for one problem of the oscillator."""
    problem = van_der_pol()
    teacher, cost, system = problem.teacher, problem.teacher.quadratic_cost, problem.teacher.system
    x0, xT = sample_states(8, seed=3, state_range=2.0, target_range=0.0)
    controls = teacher.solve(x0[:1], xT[:1])
    network = pretrained("laboratory/van_der_pol_gradient").eval()
    turn = iter(range(10**9))

    def another():
        """One of eight problems in turn: how many iterations they need differs."""
        i = next(turn) % 8
        return teacher.solve(x0[i:i + 1], xT[i:i + 1])

    def gradient():
        states = system.rollout_unchecked(x0[:1], controls)
        return cost.gradient(system, states, controls, xT[:1])

    return {"roll-out of one problem": lambda: system.rollout_unchecked(x0[:1], controls),
            "its gradient": gradient,
            "chapter 9's network, one problem": lambda: network.predict(x0[:1].float(), xT[:1].float()),
            "iterative LQR from nothing, one problem": another}


def growth(values, call, repeats):
    """Seconds and memory for each value, and the slope of the seconds on log axes over the last three values."""
    taken, memory = [], []
    for value in values:
        run = call(value)
        taken.append(seconds(run, repeats))
        memory.append(memory_of(run) / 1e6)
    slope = np.polyfit(np.log(values[-3:]), np.log(taken[-3:]), 1)[0]
    return {"values": list(values), "seconds": taken, "MB": memory, "slope": slope}


def grown(quick):
    """How the seconds grow with problems, horizon, states and cycles."""
    def optima(problems, horizon=50, states=2):
        cost = QuadraticCost(torch.eye(states), [[0.1]], 20 * torch.eye(states))
        teacher = IterativeLQR(Chain(states), horizon, cost, guesses=1)
        x0, xT = sample_states(problems, 0, states, 1.0, 0.0)
        return lambda: teacher.try_solve(x0, xT)

    def roll_outs(problems, horizon=100):
        system, (x0, _) = VanDerPol(), sample_states(problems, 0)
        controls = torch.zeros(problems, horizon, 1, dtype=torch.float64)
        return lambda: system.rollout_unchecked(x0, controls)

    def cycles(number):
        network = pretrained("laboratory/van_der_pol_gradient").eval()
        x0, xT = (states.float() for states in sample_states(64, 0, 2, 2.0, 0.0))
        return lambda: network.predict(x0, xT, number)

    few = 2 if quick else None
    with threads(1), torch.no_grad():
        return {"optima, by problems": growth((100, 1000, 10_000)[:few], optima, 1),
                "optima, by horizon": growth((15, 60, 250, 1000)[:few], lambda N: optima(1000, N), 1),
                "optima, by states": growth((2, 4, 8, 12)[:few], lambda n: optima(1000, 50, n), 1),
                "roll-outs, by problems": growth((8, 100, 10_000, 100_000)[:few], roll_outs, 3),
                "roll-outs, by horizon": growth((15, 100, 1000)[:few], lambda N: roll_outs(1000, N), 3),
                "network, by cycles": growth((1, 2, 4, 8, 16)[:few], cycles, 3)}


def bench(quick=False):
    """Milliseconds compiled and in Python, in one run; seconds for 4,000 problems; growth."""
    result = {}
    with threads(1), torch.no_grad():
        for name, call in tasks().items():
            repeats = 3 if quick else 60
            compiled = seconds(call, repeats)
            with in_python():
                plain = seconds(call, 1 if quick else 7)
            result[name] = {"compiled (ms)": 1e3 * compiled, "in Python (ms)": 1e3 * plain}
    teacher = van_der_pol().teacher
    x0, xT = sample_states(40 if quick else 4000, 0, 2, 2.0, 0.0)
    with threads(2):
        taken = seconds(lambda: teacher.solve(x0, xT), 1)
    with threads(2), in_python():
        plain = None if quick else seconds(lambda: teacher.solve(x0, xT), 1)
    return {"one problem": result, "4,000 problems (s)": {"compiled": taken, "in Python": plain},
            "growth": grown(quick)}
