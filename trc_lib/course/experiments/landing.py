"""Powered descent: what decides about a plan, and the rivals that need no training."""

import dataclasses

import numpy as np
import torch

from trc_lib.teachers.landing import check, correct, held, safe
from trc_lib.teachers.powered_descent import PoweredDescent

ITERATIONS = 5            # of Newton's method that every network's plan gets before it is judged
PUBLISHED = (10, 1, 5)    # m horizontal, m of altitude, m/s: a landing, in the literature
EXCESS = 0.01             # of the optimum's fuel: what a plan may burn more
RESERVE = 0.1             # of the largest thrust: what new plans do without, if they can
UNSAFE = 1e6              # kg: what an unsafe plan costs beside one that is safe
LEAST_LEFT = 1.0          # s of a plan: with less nothing is changed any more
LAST_STEPS = 4            # of a plan: no start lies on the way so late
TIMES = np.geomspace(0.4, 3.0, 14)  # of a time of flight, those that the polynomial law tries


def judge(dataset, controls, iterations=ITERATIONS):
    """The figures of plans for a landing, after some ``iterations`` of Newton's method.

    Returns:
        shares of the plans: ``"rejected"``, that are not safe or burn over 1 % more fuel than the
        optimum (no smaller than half a plan, so that it has a logarithm); ``"unsafe"``; and
        ``"landed"``, by the criterion of the literature, before Newton's method.
        ``"fuel_excess"``, the mean of the safe plans, 0 if none is, and ``"fuel_excess_p99"``; the
        largest ``"low"`` (m below the glide slope) and 99th percentile of it, and of
        ``"position"``.
    """
    system, x0 = dataset.system, dataset.initial_states
    end = system.rollout_unchecked(x0, controls)[:, -1]
    if iterations:
        controls = correct(system, x0, controls, iterations)
    report = check(system, x0, controls)
    sound, optimum = safe(report), system.fuel(dataset.controls)
    excess = report["fuel"] / optimum - 1
    of_safe = excess[sound].numpy() if bool(sound.any()) else np.zeros(1)
    rejected = 1 - float((sound & (excess <= EXCESS)).double().mean())
    figures = {"landed": float(arrived(end).double().mean()),
               "rejected": max(rejected, 0.5 / len(sound)),
               "unsafe": 1 - float(sound.double().mean()),
               "fuel_excess": float(of_safe.mean()),
               "fuel_excess_p99": float(np.quantile(of_safe, 0.99)),
               "low_max": float(report["low"].nan_to_num(1e9).max())}
    return figures | {f"{name}_p99": float(np.quantile(report[name].nan_to_num(1e9).numpy(), 0.99))
                      for name in ("low", "position")}


def arrived(end):
    """Which flights that end in these states, ``[n, 7]``, landed by the literature's criterion."""
    return ((end[:, :2].norm(dim=1) < PUBLISHED[0]) & (end[:, 2].abs() < PUBLISHED[1])
            & (end[:, 3:6].norm(dim=1) < PUBLISHED[2]))


# ---------------------------------------------------------------- guesses and corrections

def polynomial_law(teacher, train_set=None):
    """A guess without learning: accelerations linear in time that land, in the best of 14 times.

    The time is the one with the least fuel among those whose thrusts leave their limits least.
    Source: Cherry (1964), A general, explicit, optimizing guidance law for rocket-propelled
    spaceflight. The guidance of the Apollo lunar module has one power of time more.
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
        try:
            landing = teacher.program.solve(x0, float(guess[:, 3].sum()))
        except ValueError:  # the guess lasts longer than any tank
            landing = None
        return _exact(teacher, x0, landing)
    return refine


def _exact(teacher, x0, landing):
    """A landing as controls, by two iterations of Newton's method exact; hovering if it failed."""
    if landing is None or landing.status != "optimal":
        return np.tile([0.0, 0.0, teacher.craft.least_thrust, 1.0], (teacher.horizon, 1))
    start = torch.from_numpy(x0)[None]
    return correct(teacher.system, start, held(landing)[None], 2)[0].numpy()


# ---------------------------------------------------------------- in closed loop

def downrange(x0):
    """Starts turned about the vertical, and mirrored, to lie downrange and drift to one side.

    Returns:
        the starts, ``[n, 7]``, and the turns, ``[n, 2, 2]``, that made their horizontal vectors.
    """
    x, y, vx, vy = (x0[:, i] for i in (0, 1, 3, 4))
    away = torch.hypot(x, y)
    cos, sin = torch.where(away > 0, x / away, 1.0), torch.where(away > 0, y / away, 0.0)
    side = torch.where(cos * vy - sin * vx < 0, -1.0, 1.0).to(x0)  # of the drift
    turn = torch.stack([torch.stack([cos, sin], dim=-1),
                        torch.stack([-side * sin, side * cos], dim=-1)], dim=-2)  # [n, 2, 2]
    start = x0.clone()
    for at in (slice(0, 2), slice(3, 5)):
        start[:, at] = (turn @ x0[:, at, None])[..., 0]
    return start, turn


def by_network(network):
    """A guess for `descend`, from a network that knows starts downrange that drift to one side."""
    def guess(measured, rest):
        start, turn = downrange(measured)
        target = torch.zeros_like(start)
        target[:, 6] = network.system.craft.dry_mass
        controls = network.solve(start, target)
        controls[..., :2] = controls[..., :2] @ turn
        return controls
    return guess


def by_polynomial(teacher):
    """A guess for `descend` by `polynomial_law`, in whatever time suits it."""
    law = polynomial_law(teacher)
    return lambda measured, rest: law(measured, None)


def by_cone_programs(teacher, reserve=RESERVE):
    """A guess for `descend` from the solver, one craft after the other.

    A program in the time that the old plan has left; if it has no answer, the best time is sought,
    and if there is none either, the old plan stays.
    """
    program = PoweredDescent(_of_a_pilot(teacher.craft, reserve), teacher.horizon, "constant")

    def guess(measured, rest):
        made = rest.clone()
        for i in (rest[:, 0, 3] * teacher.horizon > LEAST_LEFT).nonzero()[:, 0].tolist():
            landing = program.solve(measured[i], float(rest[i, :, 3].sum()))
            if landing.status != "optimal":
                landing = program.best(measured[i])
            if landing.status == "optimal":
                made[i] = held(landing)
        return made
    return guess


def on_the_way(dataset, cuts=2, seed=0):
    """A dataset with states on the way besides: what is left of an optimal plan is optimal there.

    Args:
        dataset: landings.
        cuts: states that are drawn on each of them.
        seed: of these.
    """
    system, draw = dataset.system, torch.Generator().manual_seed(seed)
    starts, plans = [dataset.initial_states], [dataset.controls]
    states = system.rollout_unchecked(dataset.initial_states, dataset.controls)
    n, N = dataset.controls.shape[:2]
    for _ in range(cuts):
        k = torch.randint(1, N - LAST_STEPS, (n,), generator=draw)
        start, turn = downrange(states[torch.arange(n), k])
        plan = rest_of(dataset.controls, k * dataset.controls[:, 0, 3])
        plan[..., :2] = plan[..., :2] @ turn.mT
        starts.append(start)
        plans.append(correct(system, start, plan, 2))
    return dataclasses.replace(
        dataset, initial_states=torch.cat(starts), controls=torch.cat(plans), drawn=None,
        target_states=dataset.target_states.repeat(cuts + 1, 1))


def rest_of(controls, elapsed):
    """What is left of plans after ``elapsed`` s each, in as many steps, of the mean thrust each."""
    N = controls.shape[1]
    left = (controls[..., 3].sum(dim=1) - elapsed).clamp(min=1e-3)[:, None]           # [n, 1]
    ends = elapsed[:, None] + left * torch.arange(N + 1).to(left) / N                 # [n, N + 1]
    thrust = _impulse(controls, ends).diff(dim=1) / (left / N)[..., None]
    return torch.cat([thrust, (left / N)[..., None].expand(-1, N, 1)], dim=-1)


def _of_a_pilot(craft, reserve):
    """The craft with less thrust, and any mass: what a pilot weighs is no measure of its fuel."""
    return dataclasses.replace(craft, dry_mass=craft.dry_mass / 2,
                               most_thrust=(1 - reserve) * craft.most_thrust)


def descend(system, x0, plan, guess=None, every=5.0, reserve=RESERVE, spread=0.05, wind=0.05,
            bias=0.005, seed=0, dt=0.1):
    """Fly plans on craft that are not as they should be, and plan anew on the way.

    Every craft has a thrust and a mass that are off by up to ``spread``, drifts in a constant
    horizontal wind, and measures position and velocity with errors in proportion. It weighs itself:
    the ratio of thrust and mass that it plans with is nearly exact after the first plan (what it
    burns is in proportion to its true thrust). A new plan is a
    guess, corrected by Newton's method; what is left of the old plan, corrected, is another.
    `check` looks at both from where the craft believes to be. Both leave some of the thrust in
    reserve; of those that are safe the one with less fuel is flown. If none is, the old plan may
    use the reserve, and then the guess; and if that is not safe either, whatever misses least is
    flown.

    Args:
        system: a `Lander`.
        x0: ``[n, 7]``, as planned; the target is the origin.
        plan: ``[n, N, 4]``, the first plans.
        guess: a function from measured states and what is left of the plans to guesses; None for
            open loop.
        every: s between plans.
        reserve: share of the largest thrust that new plans do without, if they can.
        spread: largest share by which thrust and mass are off, uniform.
        wind: m/s^2, standard deviation of each horizontal component.
        bias: standard deviation of the relative error of each component that is measured.
        seed: of all these.
        dt: s of a step of the simulation.

    Returns:
        dict of ``"landed"``, by the criterion of the literature, without having been out of fuel
        or below the ground; ``"miss"`` (m), ``"altitude"`` (m), ``"speed"`` (m/s), ``"fuel"``
        (kg); ``"lowest"`` (m, the least altitude on the way), ``"low"`` (m below the glide slope),
        ``"left"`` (kg of fuel, negative if it was burnt before the end), each ``[n]``;
        ``"refused"``, the share of guesses that were not safe; and ``"paths"``, ``[n, steps, 3]``,
        which stand still after landing.
    """
    draw = torch.Generator().manual_seed(seed)
    n, craft = len(x0), system.craft
    uniform = 2 * torch.rand(n, 2, generator=draw, dtype=torch.float64) - 1
    thrust_scale, mass_scale = (1 + spread * uniform).unbind(1)
    push = torch.zeros(n, 3, dtype=torch.float64)
    push[:, :2] = wind * torch.randn(n, 2, generator=draw, dtype=torch.float64)
    off = 1 + bias * torch.randn(n, 6, generator=draw, dtype=torch.float64)
    state, down = x0.clone(), torch.tensor([0.0, 0.0, -craft.gravity], dtype=torch.float64)
    state[:, 6] = x0[:, 6] * mass_scale
    dry = state[:, 6] - (x0[:, 6] - craft.dry_mass)  # the tanks hold what they should
    believed = x0[:, 6].clone()       # kg, from the fuel that was asked for
    elapsed, flown, asked, refused = torch.zeros(n, dtype=torch.float64), 0.0, 0, 0
    paths, low = [state[:, :3].clone()], torch.zeros(n, dtype=torch.float64)
    lowest = state[:, 2].clone()
    steep = np.tan(np.radians(craft.glide_slope or 0.0))
    careful, bold = (type(system)(_of_a_pilot(craft, kept)) for kept in (reserve, 0.0))
    while bool((elapsed < plan[..., 3].sum(dim=1)).any()):
        if guess is not None and flown >= every:
            flown = 0.0
            measured = torch.cat([state[:, :6] * off, (believed * mass_scale / thrust_scale
                                                       )[:, None]], dim=1)
            rest = rest_of(plan, elapsed)
            going = rest[:, 0, 3] * plan.shape[1] > LEAST_LEFT
            guessed = guess(measured, rest)
            new, least = rest, torch.full_like(elapsed, torch.inf)
            sound, fit = going & False, going & False
            for pilot, sources in ((careful, (rest, guessed)), (bold, (rest,)), (bold, (guessed,))):
                done = sound
                for source in sources:
                    made = correct(pilot, measured, source, ITERATIONS)
                    report = check(pilot, measured, made)
                    good = safe(report) & (report["fuel"] <= believed - craft.dry_mass)
                    price = torch.where(good, report["fuel"], UNSAFE * (
                        1 + report["position"] + report["low"] + report["speed"]))
                    better = (price < least) & ~done
                    new = torch.where(better[:, None, None], made, new)
                    least, sound = torch.where(better, price, least), sound | good
                    fit = fit | good if source is guessed else fit
            asked, refused = asked + int(going.sum()), refused + int((going & ~fit).sum())
            plan = torch.where(going[:, None, None], new, plan)
            elapsed = elapsed.where(~going, 0.0)
        span = (plan[..., 3].sum(dim=1) - elapsed).clamp(min=0, max=dt)[:, None]  # 0 once landed
        pushed = _impulse(plan, torch.stack([elapsed, elapsed + dt], dim=1))
        thrust = pushed.diff(dim=1)[:, 0] / span.clamp(min=1e-9)
        size = thrust.norm(dim=1)
        pull = (thrust_scale / state[:, 6])[:, None] * thrust + push + down
        state[:, :3] += span * state[:, 3:6] + span**2 / 2 * pull
        state[:, 3:6] += span * pull
        state[:, 6] -= craft.burn_rate * thrust_scale * size * span[:, 0]
        believed = believed - craft.burn_rate * size * span[:, 0]
        elapsed, flown = elapsed + dt, flown + dt
        low = torch.maximum(low, steep * state[:, :2].norm(dim=1) - state[:, 2])
        lowest = torch.minimum(lowest, state[:, 2])
        paths.append(state[:, :3].clone())
    left = state[:, 6] - dry
    return {"landed": arrived(state) & (lowest > -PUBLISHED[1]) & (left >= 0),
            "miss": state[:, :2].norm(dim=1), "altitude": state[:, 2],
            "speed": state[:, 3:6].norm(dim=1), "fuel": x0[:, 6] * mass_scale - state[:, 6],
            "lowest": lowest, "low": low, "left": left,
            "refused": refused / max(asked, 1), "paths": torch.stack(paths, dim=1)}


def _impulse(plan, times):
    """What plans have pushed after so many seconds, from ``[n, k]`` to ``[n, k, 3]``, N s."""
    h, N = plan[:, :1, None, 3], plan.shape[1]
    spent = (times[..., None] - h * torch.arange(N).to(h)).clamp(min=0).minimum(h)  # s, each step
    return spent @ plan[..., :3]
