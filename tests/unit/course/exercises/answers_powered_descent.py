"""Answers to chapter 11's exercises: right ones, and wrong ones with a part of the message."""

import dataclasses
import math

import numpy as np
import torch

from trc_lib.course.exercises import powered_descent as checks
from trc_lib.teachers.powered_descent import PoweredDescent


def of(parameters, expression):
    """An answer with these parameters that returns the value of an expression."""
    return eval(f"lambda {parameters}: {expression}", {"math": math, "np": np, "torch": torch})


# ------------------------------------------------------------------ into_the_ring

def ring(expression, zeros="up"):
    """``expression`` of T, size, least, most; zeros become ``zeros``."""
    def answer(thrust, least, most):
        size = np.linalg.norm(thrust, axis=1, keepdims=True)
        names = {"np": np, "T": thrust, "size": np.where(size == 0, 1, size), "least": least,
                 "most": most, "lengths": size}
        up = np.array([0, 0, least])
        return np.where(size == 0, eval(zeros, names | {"up": up}), eval(expression, names))
    return answer


def ring_by_loop(thrust, least, most):
    found = []
    for x, y, z in thrust.tolist():
        size = math.hypot(x, y, z)
        scale = min(max(size, least), most) / size if size else 0
        found.append([x * scale, y * scale, z * scale] if size else [0, 0, least])
    return found


def ring_in_torch(thrust, least, most):
    thrust = torch.tensor(thrust, requires_grad=True)
    start = torch.where((thrust == 0).all(1, keepdim=True), torch.tensor([0, 0, 1e-3]), thrust)
    size = start.norm(dim=1, keepdim=True)
    return start * (size.clamp(least, most) / size)


def ring_with_nan(thrust, least, most):
    size = np.linalg.norm(thrust, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return thrust * size.clip(least, most) / size


def spoils_thrust(thrust, least, most):
    thrust[:] = ring_by_loop(thrust, least, most)
    return thrust


# ------------------------------------------------------------------ faults

def audit(ring="max(over.max(), under.max()) > 1e-3",
          fuel="(abs(fall - burnt) > 1e-3 * burnt).any()",
          slope="(z < tan * away - 0.1).any()",
          target="norm(end[:3]) > 1 or norm(end[3:6]) > 0.5", form=set):
    """An auditor with one expression for each rule."""
    def answer(states, thrusts, h, craft):
        size = np.linalg.norm(thrusts, axis=1)
        names = {"np": np, "math": math, "norm": np.linalg.norm, "size": size, "craft": craft,
                 "over": size / craft.most_thrust - 1, "under": 1 - size / craft.least_thrust,
                 "fall": states[:-1, 6] - states[1:, 6], "burnt": craft.burn_rate * size * h,
                 "x": states[:, 0], "z": states[:, 2], "end": states[-1], "states": states,
                 "away": np.hypot(states[:, 0], states[:, 1]), "h": h, "thrusts": thrusts,
                 "tan": math.tan(math.radians(craft.glide_slope))}
        expressions = {"ring": ring, "fuel": fuel, "glide slope": slope, "target": target}
        return form(name for name, each in expressions.items() if eval(each, names))
    return answer


def audit_by_loop(states, thrusts, h, craft):
    found = []
    for before, after, thrust in zip(states, states[1:], thrusts):
        size = math.hypot(*thrust)
        if not 0.999 * craft.least_thrust <= size <= 1.001 * craft.most_thrust:
            found.append("ring")
        if not math.isclose(before[6] - after[6], craft.burn_rate * size * h, rel_tol=1e-3):
            found.append("fuel")
    for x, y, z, *_ in states:
        if math.hypot(x, y) > 0 and z + 0.1 < math.tan(
                craft.glide_slope * math.pi / 180) * math.hypot(x, y):
            found.append("glide slope")
    if math.hypot(*states[-1, :3]) > 1 or math.hypot(*states[-1, 3:6]) > 0.5:
        found.append("target")
    return found


def spoils_states(states, thrusts, h, craft):
    states[:, 2] += 0.1
    return set()


# ------------------------------------------------------------------ upright

def best(pointing="most_tilt", start=checks.START, value="fuel", none="math.nan"):
    """The fuel of the best landing with this limit of the tilt."""
    def answer(most_tilt):
        limit = eval(pointing, {"math": math, "most_tilt": most_tilt})
        craft = dataclasses.replace(checks.CRAFT, pointing=limit)
        found = PoweredDescent(craft, 20).best(start)
        names = {"math": math, "np": np, "torch": torch, "fuel": found.fuel, "start": start}
        return eval(value if found.status == "optimal" else none, names | {"found": found})
    return answer


def scan(*times, limit=True):
    """The least fuel of these times of flight, with 20 steps."""
    def answer(most_tilt):
        craft = dataclasses.replace(checks.CRAFT, pointing=most_tilt if limit else 180.0)
        program = PoweredDescent(craft, 20)
        fuels = [program.solve(checks.START, float(time)).fuel for time in range(*times)]
        return np.nanmin(fuels) if np.isfinite(fuels).any() else np.nan
    return answer


# ------------------------------------------------------------------ how_often

def shares(*values):
    """An answer that measured these, for 2, 5, 10 and 20 s."""
    return lambda every: dict(zip((2.0, 5.0, 10.0, 20.0), values))[every]


RIGHT = {
    checks.into_the_ring: [
        ring_by_loop, ring_in_torch, lambda *given: np.float32(ring_by_loop(*given)),
        lambda *given: tuple(map(tuple, ring_by_loop(*given))),
        ring("T * (size.clip(least, most) / size)"),
        ring("np.where(size < least, T / size * least, np.where(size > most, T / size * most, T))"),
    ],
    checks.faults: [audit(), audit(form=list), audit(form=frozenset), audit(form=tuple),
                    audit(form=lambda names: np.array([*names])), audit(form=iter),
                    audit(form=lambda names: dict.fromkeys(names).keys()), audit_by_loop],
    checks.upright: [
        best(), scan(44, 104, 2),
        best(value="[np.float32(fuel)]", none="np.array([np.nan])"),
        best(value="torch.tensor([fuel])", none="torch.tensor(math.inf)"),
    ],
    checks.how_often: [
        shares(0.98, 0.93, 0.63, 0.2), shares(1.0, 0.975, 0.5, 0.3), shares(1, 1, 0.7, 0),
        lambda every: torch.tensor([0.95 - max(every - 5, 0) / 20]),
        lambda every: np.float32(0.95 - max(every - 5, 0) / 20),
    ],
}

WRONG = {
    checks.into_the_ring: [
        (ring("T * np.minimum(1, most / size)"), "Only the upper"),
        (ring("T * np.maximum(1, least / size)"), "Only the lower"),
        (ring("T.clip(least, most)"), "one by one"),
        (ring("T.clip(-most, most)"), "one by one"),
        (ring("np.sign(T) * abs(T).clip(least, most)"), "one by one"),
        (ring("T / size * most"), "as long as most"),
        (ring("T / size * least"), "as long as least"),
        (ring("T / size"), "multiply by the length"),
        (ring("T * lengths.mean().clip(least, most) / lengths.mean()"), "mean length"),
        (ring("T * np.clip(np.linalg.norm(T), least, most) / np.linalg.norm(T)"), "axis=1"),
        (ring("T"), "unchanged"),
        (ring("T / size * np.where((size < least) | (size > most), size.clip(least, most), "
              "(least + most) / 2)"), "its own nearest"),
        (ring("T * size.clip(least, most)"), "it should be"),
        (ring("-T * (size.clip(least, most) / size)"), "it should be"),
        (ring("T * (size.clip(least, most) / size)", "0 * up"), "stays zero"),
        (ring("T * (size.clip(least, most) / size)", "-up"), "straight up"),
        (of("T, least, most", "np.linalg.norm(T, axis=1).clip(least, most)"), "Those are lengths"),
        (ring_with_nan, "NaN"), (of("T, least, most", "'long'"), "not text"),
        (spoils_thrust, "changed in place"),
    ],
    checks.faults: [
        (audit(ring="over.max() > 1e-3"), "upper limit alone"),
        (audit(ring="under.max() > 1e-3"), "lower limit alone"),
        (audit(ring="max(over.max(), under.max()) > 0"), "Landing 1 (sound, with rounding"),
        (audit(ring="max(over[-1], under[-1]) > 1e-3"), "every step or node"),
        (audit(ring="not craft.least_thrust < size.mean() < craft.most_thrust"),
         "every step or node"),
        (audit(ring="(abs(thrusts[:, 2]) < craft.least_thrust).any()"), "wrongly find"),
        (audit(fuel="abs(fall.sum() - burnt.sum()) > 1e-3 * burnt.sum()"), "may cancel"),
        (audit(fuel="(fall != burnt).any()"), "for rounding"),
        (audit(fuel="not np.allclose(fall, burnt)"), "for rounding"),
        (audit(fuel="(fall > 1.001 * burnt).any()"), "too *little*"),
        (audit(fuel="abs(fall[-1] - burnt[-1]) > 1e-3 * burnt[-1]"), "not at the last alone"),
        (audit(fuel="abs(fall / burnt * math.cos(0.5) - 1).max() > 1e-3"), "kg (+0.00%)"),
        (audit(slope="(z < math.tan(craft.glide_slope) * away - 0.1).any()"), "in degrees"),
        (audit(slope="z[-1] < tan * away[-1] - 0.1"), "every step or node"),
        (audit(slope="(z < tan * abs(x) - 0.1).any()"), "crossrange"),
        (audit(slope="(z < tan * away).any()"), "0.04 m below the slope"),
        (audit(slope="(z < tan * norm(states[:, :3], axis=1) - 0.1).any()"),
         "wrongly find"),
        (audit(target="norm(end[:3]) > 1"), "velocity at the end counts"),
        (audit(target="norm(end[3:6]) > 0.5"), "position at the end counts"),
        (audit(target="(abs(end[:3]) > 1).any() or (abs(end[3:6]) > 0.5).any()"), "components"),
        (audit(target="norm(end[:6]) > 0"), "for rounding"),
        (audit(target="False"), "never find the fault \"target\""),
        (audit(slope="False"), "never find the fault \"glide slope\""),
        (of("*problem", "set()"), "no fault in any"),
        (of("*problem", "{'ring', 'fuel', 'glide slope', 'target'}"), "every fault in every"),
        (of("*problem", "'ring'"), "even of one"),
        (of("*problem", "{'ring': False, 'fuel': True, 'target': False}"), "not a dict"),
        (of("*problem", "{'ring': np.bool_(False)}"), "not a dict"),
        (of("*problem", "True"), "not bool"),
        (of("*problem", "{'glide'}"), "none of the rules"),
        (of("*problem", "[['ring']]"), "none of the rules"),
        (spoils_states, "changed in place"),
    ],
    checks.upright: [
        (best("180.0"), "Is your rule in the list"),
        (best("180.0"), "burns less than 287.5"),
        (best("math.degrees(math.acos(math.cos(most_tilt)))"), "takes radians"),
        (best("90 - most_tilt"), "For 30 degrees"),
        (scan(44, 104, 2, limit=False), "burns less than"),
        (scan(40, 104, 12), "more times of flight"),
        (scan(44, 60, 2), "you find no landing; there is one"),
        (best(none="found.fuel"), "there is no such landing"),
        (best(none="390.0"), "there is none"),
        (best(none="start[6]"), "exp(-inf)"),
        (best(value="start[6] - fuel"), "*left*"),
        (best(value="math.nan"), "there is one"),
        (best(value="-fuel"), "burns less than"),
        (best(value="[fuel, fuel]"), "The fuel"),
        (best(value="'much'"), "should be a number"),
    ],
    checks.how_often: [
        (shares(98, 93, 63, 20), "not per cent"),
        (shares(39, 37, 25, 8), "not the count"),
        (shares(0.02, 0.07, 0.37, 0.8), "does *not* land"),
        (shares(0.93, 0.93, 0.93, 0.93), "reach landing.descend"),
        (shares(0, 0, 0, 0), "guess=None"),
        (shares(0.9, 0.6, 0.4, 0.2), "every 5 s the share should be"),
        (shares(1, 1, 1, 0.9), "every 10 s the share should be"),
        (shares(0.98, 0.93, 0.63, 0.7), "every 20 s the share should be"),
        (shares(-0.1, 0.9, 0.6, 0.2), "not negative"),
        (lambda every: [0.9, 0.8], "The share"),
        (lambda every: torch.ones(40, dtype=torch.bool), "their mean"),
        (lambda every: [True] * 10, "their mean"),
        (lambda every: "most", "should be a number"),
    ],
}
