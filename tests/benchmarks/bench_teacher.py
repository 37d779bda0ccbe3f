"""Exact solves a second: one matrix product for all problems, against solvers in a loop, and against memory alone."""

import cvxpy
import numpy as np
import osqp
import scipy.linalg
import scipy.sparse
import torch

from tests.benchmarks.timing import seconds, threads
from trc_lib.data import sample_states
from trc_lib.teachers import MinimumEnergyController

AIMS = {"solves a second": 10e6, "times OSQP's loop": 1_000}


def by_lstsq(C, d):
    return np.stack([scipy.linalg.lstsq(C, row)[0] for row in d])


def by_osqp(C, d, anew):
    """Least energy as a quadratic program; ``anew``: set up for each problem, otherwise only the bounds change."""
    N = C.shape[1]
    found, solver = [], None
    for row in d:
        if solver is None or anew:
            solver = osqp.OSQP()
            solver.setup(scipy.sparse.eye(N, format="csc"), np.zeros(N), scipy.sparse.csc_matrix(C), row, row, verbose=False,
                         eps_abs=1e-9, eps_rel=1e-9, polishing=True)
        else:
            solver.update(l=row, u=row)
        found.append(solver.solve(raise_error=True).x)
    return np.stack(found)


def by_cvxpy(C, d):
    u, row = cvxpy.Variable(C.shape[1]), cvxpy.Parameter(C.shape[0])
    problem, found = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(u)), [C @ u == row]), []
    for values in d:
        row.value = values
        problem.solve(solver=cvxpy.CLARABEL)
        found.append(u.value)
    return np.stack(found)


def bench(num_problems=1_000_000, num_loop=200):
    """Solves a second, and each rival's loop on the first few of the same problems."""
    teacher = MinimumEnergyController()
    x0, xT = sample_states(num_problems, seed=0)
    with threads(2):
        controls = teacher.solve(x0, xT)
        # many repeats: for a second at a time, fresh memory can cost a virtual machine several times what it costs otherwise
        taken, memory = (seconds(call, repeats=50) for call in (
            lambda: teacher.solve(x0, xT), lambda: torch.empty_like(controls).copy_(controls)))
    F, G = teacher.system.prediction_matrices(15)
    C, d = G[-1].numpy(), (xT[:num_loop] - x0[:num_loop] @ F[-1].T).numpy()
    ours, result = num_problems / taken, {}
    for name, solve, number in (("scipy.linalg.lstsq", lambda d: by_lstsq(C, d), num_loop),
                                ("OSQP, set up for each", lambda d: by_osqp(C, d, anew=True), num_loop),
                                ("OSQP, only the bounds change", lambda d: by_osqp(C, d, anew=False), num_loop),
                                ("cvxpy, one parametrised problem", lambda d: by_cvxpy(C, d), num_loop // 10)):
        found = solve(d[:number])
        a_second = number / seconds(lambda solve=solve, number=number: solve(d[:number]), repeats=3)
        result[name] = {"solves a second": a_second, "times slower": ours / a_second,
                        "largest difference": float(np.abs(found - controls[:number, :, 0].numpy()).max())}
    return {"solves a second": ours, "share of the time that copying the answers takes": memory / taken, "rivals": result}
