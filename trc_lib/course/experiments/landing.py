"""Powered descent: what decides about a plan, and the rivals that need no training."""

import numpy as np
import torch

from trc_lib.teachers.landing import check, correct, held, safe

ITERATIONS = 5            # of Newton's method that every network's plan gets before it is judged
PUBLISHED = (10, 1, 5)    # m horizontal, m of altitude, m/s: a landing, in the literature
EXCESS = 0.01             # of the optimum's fuel: what a plan may burn more
TIMES = np.geomspace(0.4, 3.0, 14)  # of a time of flight, those that the polynomial law tries


def judge(dataset, controls):
    """The figures of plans for a landing, after `ITERATIONS` of Newton's method.

    Returns:
        shares of the plans: ``"failed"``, that are not safe or burn over 1 % more fuel than the
        optimum (no smaller than half a plan, so that it has a logarithm); ``"unsafe"``; and
        ``"landed"``, by the criterion of the literature, before Newton's method.
        ``"fuel_excess"``, the mean of the safe plans, 0 if none is, and ``"fuel_excess_p99"``; the
        largest ``"low"`` (m below the glide slope) and 99th percentile of it, and of
        ``"position"``.
    """
    system, x0 = dataset.system, dataset.initial_states
    end = system.rollout_unchecked(x0, controls)[:, -1]
    landed = ((end[:, :2].norm(dim=1) < PUBLISHED[0]) & (end[:, 2].abs() < PUBLISHED[1])
              & (end[:, 3:6].norm(dim=1) < PUBLISHED[2]))
    return {"landed": float(landed.double().mean()),
            **judge_as_they_are(dataset, correct(system, x0, controls, ITERATIONS))}


def judge_as_they_are(dataset, controls):
    """The same figures of plans as they are, but for ``"landed"``."""
    report = check(dataset.system, dataset.initial_states, controls)
    sound, optimum = safe(report), dataset.system.fuel(dataset.controls)
    excess = report["fuel"] / optimum - 1
    of_safe = excess[sound].numpy() if bool(sound.any()) else np.zeros(1)
    failed = 1 - float((sound & (excess <= EXCESS)).double().mean())
    figures = {"failed": max(failed, 0.5 / len(sound)), "unsafe": 1 - float(sound.double().mean()),
               "fuel_excess": float(of_safe.mean()),
               "fuel_excess_p99": float(np.quantile(of_safe, 0.99)),
               "low_max": float(report["low"].nan_to_num(1e9).max())}
    return figures | {f"{name}_p99": float(np.quantile(report[name].nan_to_num(1e9).numpy(), 0.99))
                      for name in ("low", "position")}


# ---------------------------------------------------------------- guesses and corrections

def polynomial_law(teacher, train_set=None):
    """A guess without learning: accelerations linear in time that land, in the best of 14 times.

    The time is the one with the least fuel among those whose thrusts leave their limits least.
    Source: the guidance of the Apollo lunar module; Klumpp (1974), Apollo lunar descent guidance.
    """
    system, N = teacher.system, teacher.horizon
    craft = system.craft
    when = (torch.arange(N, dtype=torch.float64) + 0.5) / N                       # [N]
    down = torch.tensor([0.0, 0.0, -craft.gravity], dtype=torch.float64)

    def solve(x0, xT):
        r, v = x0[:, None, :3], x0[:, None, 3:6]
        hover = craft.most_thrust / x0[:, 6] - craft.gravity                     # m/s^2 to spare
        natural = v.norm(dim=-1) / hover[:, None] + (2 * r.norm(dim=-1) / hover[:, None]).sqrt()
        time = (natural * torch.from_numpy(TIMES))[..., None]                    # [n, 14, 1]
        first, last = -(6 * r / time + 4 * v) / time, (6 * r / time + 2 * v) / time
        ask = (first[..., None, :] * (1 - when[:, None]) + last[..., None, :] * when[:, None]
               - down)                                                           # [n, 14, N, 3]
        h = (time / N)[..., None].expand(*ask.shape[:-1], 1)
        burnt = (craft.burn_rate * h * ask.norm(dim=-1, keepdim=True)).cumsum(dim=-2)
        thrust = ask * x0[:, None, None, 6:] * torch.exp(-burnt)
        controls = torch.cat([thrust, h], dim=-1)
        size = thrust.norm(dim=-1)
        outside = ((craft.least_thrust - size).clamp(min=0)
                   + (size - craft.most_thrust).clamp(min=0)).sum(dim=-1) / craft.most_thrust
        worth = system.fuel(controls) / (x0[:, 6:] - craft.dry_mass) + outside
        best = worth.argmin(dim=1)
        return system.within(controls[torch.arange(len(x0)), best])
    return solve


def newton(teacher):
    """Newton's method with thrusts within their limits: see `trc_lib.teachers.landing.correct`."""
    return lambda x0, xT, guess, iterations: correct(teacher.system, x0, guess, iterations)


def cone_programs(teacher):
    """The teacher, for one problem: cone programs in search of the best time of flight."""
    def refine(x0, xT, guess, iterations):
        return _exact(teacher, x0, teacher.program.best(x0))
    return refine


def one_cone_program(teacher):
    """One cone program, in the guess's time of flight."""
    def refine(x0, xT, guess, iterations):
        return _exact(teacher, x0, teacher.program.solve(x0, float(guess[:, 3].sum())))
    return refine


def _exact(teacher, x0, landing):
    """A landing as controls, by two iterations of Newton's method exact; hovering if it failed."""
    if landing.status != "optimal":
        return np.tile([0.0, 0.0, teacher.craft.least_thrust, 1.0], (teacher.horizon, 1))
    start = torch.from_numpy(x0)[None]
    return correct(teacher.system, start, held(landing)[None], 2)[0].numpy()
