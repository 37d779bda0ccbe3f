"""Well-kept solvers as rivals on the oscillator, one problem at a time: IPOPT, fatrop, L-BFGS-B.

CasADi compiles their simulations and slopes, so that nobody waits for many small operations.
"""

import functools

import numpy as np
import scipy.optimize

from trc_lib.systems import VanDerPol

TOLERANCE = 1e-8  # of the optimality conditions
SMALL = 1e-2      # fatrop's first barrier parameter, for costs of this size


def _casadi(teacher):
    """The module, and the teacher's step and weights in its terms."""
    import casadi

    system = teacher.system
    if not isinstance(system, VanDerPol):
        raise TypeError(f"these solvers are written for VanDerPol, not for {system!r}")
    weights = teacher.quadratic_cost
    state, control, h = casadi.SX.sym("state", 2), casadi.SX.sym("control"), system.dt

    def slope(s):
        return casadi.vertcat(s[1], system.mu * (1 - s[0] ** 2) * s[1] - s[0] + control)

    k1 = slope(state)
    k2 = slope(state + h / 2 * k1)
    k3 = slope(state + h / 2 * k2)
    k4 = slope(state + h * k3)
    step = casadi.Function("step", [state, control], [state + h / 6 * (k1 + 2 * (k2 + k3) + k4)])
    Q, R, Q_final = (casadi.DM(each.numpy()) for each in (weights.Q, weights.R, weights.Q_final))

    def stage(s, u, target):
        return casadi.bilin(Q, s - target) + casadi.bilin(R, u)

    return casadi, step, stage, lambda s, target: casadi.bilin(Q_final, s - target)


def multiple_shooting(teacher, name):
    """A solver that has states and controls as unknowns, and uses that step follows step.

    Args:
        teacher: whose problems it solves.
        name: "fatrop" or "ipopt".

    Returns:
        the function for one problem of a `Correction`; its iterations are the most.
    """
    casadi, step, stage, last = _casadi(teacher)
    N, (low, high) = teacher.horizon, (bound.item() for bound in teacher.system.bounds)

    @functools.cache
    def solver(most):
        states = [casadi.MX.sym(f"x{k}", 2) for k in range(N + 1)]
        controls = [casadi.MX.sym(f"u{k}") for k in range(N)]
        start, target = casadi.MX.sym("start", 2), casadi.MX.sym("target", 2)
        unknowns, constraints = [], []
        for k, (state, control) in enumerate(zip(states, controls)):
            unknowns += [state, control]
            constraints.append(states[k + 1] - step(state, control))
            constraints += [state - start] * (k == 0) + [control]
        total = last(states[-1], target) + sum(
            stage(state, control, target) for state, control in zip(states, controls))
        equal = ([True] * 4 + [False]) + ([True] * 2 + [False]) * (N - 1)
        own = ({"structure_detection": "auto", "equality": equal,
                "fatrop": {"print_level": 0, "max_iter": most, "tol": TOLERANCE,
                           "mu_init": SMALL}} if name == "fatrop" else
               {"ipopt": {"print_level": 0, "sb": "yes", "max_iter": most, "tol": TOLERANCE}})
        program = {"x": casadi.vertcat(*unknowns, states[-1]), "f": total,
                   "g": casadi.vertcat(*constraints), "p": casadi.vertcat(start, target)}
        limits = {"lbg": np.where(equal, 0.0, low), "ubg": np.where(equal, 0.0, high)}
        return casadi.nlpsol("solver", name, program,
                             {"expand": True, "print_time": False} | own), limits

    path_of = step.mapaccum(N)

    def refine(x0, xT, guess, iterations):
        if not iterations:
            return guess
        solve, limits = solver(iterations)
        path = (np.linspace(x0, xT, N + 1) if not guess.any() else  # nothing is known of it
                np.vstack([x0, path_of(x0, guess.T).full().T]))
        first = np.append(np.hstack([path[:-1], guess]).ravel(), path[-1])
        found = solve(x0=first, p=np.append(x0, xT), **limits)["x"].full().ravel()
        return found[:-2].reshape(N, 3)[:, 2:].clip(low, high)
    return refine


def compiled_gradient(teacher):
    """Cost and its gradient in the controls, for one problem: ``(x0, xT, u) -> (J, dJ/du)``."""
    casadi, step, stage, last = _casadi(teacher)
    N = teacher.horizon
    controls, start = casadi.SX.sym("controls", N), casadi.SX.sym("start", 2)
    target, state, total = casadi.SX.sym("target", 2), start, 0
    for k in range(N):
        total += stage(state, controls[k], target)
        state = step(state, controls[k])
    total += last(state, target)
    both = casadi.Function("both", [start, target, controls],
                           [total, casadi.gradient(total, controls)])

    def evaluate(x0, xT, u):
        value, gradient = both(x0, xT, u)
        return float(value), gradient.full().ravel()
    return evaluate


def limited_memory(teacher):
    """SciPy's L-BFGS-B on the controls: the field's first-order method for limits."""
    evaluate = compiled_gradient(teacher)
    bounds = scipy.optimize.Bounds(*(bound.item() for bound in teacher.system.bounds))

    def refine(x0, xT, guess, iterations):
        if not iterations:
            return guess
        found = scipy.optimize.minimize(
            lambda u: evaluate(x0, xT, u), guess.ravel(), jac=True, method="L-BFGS-B",
            bounds=bounds, options={"maxiter": iterations, "ftol": 0.0, "gtol": TOLERANCE})
        return found.x.reshape(guess.shape)
    return refine
