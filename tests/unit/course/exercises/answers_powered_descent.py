"""Answers to chapter 11's exercises: right ones, and wrong ones with a part of the message."""

import dataclasses
import math

import numpy as np
import torch

from trc_lib.course.exercises import powered_descent as checks
from trc_lib.systems.lander import Craft, Lander
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


def ring_by_library(thrust, least, most):
    craft = Craft(least_thrust=least, most_thrust=most)
    controls = torch.tensor([[*each, 1.0] for each in thrust.tolist()], dtype=torch.float64)
    return Lander(craft).within(controls)[:, :3]


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


def scan(*times, limit=True, least=np.nanmin):
    """The least fuel of these times of flight, with 20 steps."""
    def answer(most_tilt):
        craft = dataclasses.replace(checks.CRAFT, pointing=most_tilt if limit else 180.0)
        program = PoweredDescent(craft, 20)
        fuels = [program.solve(checks.START, float(time)).fuel for time in range(*times)]
        return least(fuels) if np.isfinite(fuels).any() else np.nan
    return answer


# ------------------------------------------------------------------ trusted_fuel

def trusted(value="fuel if tight else nan", least="least_thrust", horizon=40, begin="start"):
    """``value`` of the best landing with this least thrust."""
    def answer(start, least_thrust):
        limit = eval(least, {"least_thrust": least_thrust})
        found = PoweredDescent(dataclasses.replace(checks.CRAFT, least_thrust=limit),
                               horizon).best(eval(begin, {"start": start, "checks": checks}))
        return eval(value, {"fuel": found.fuel, "tight": found.status == "optimal",
                            "nan": math.nan, "found": found, "np": np, "torch": torch,
                            "start": start})
    return answer


def trusted_of_any_time(start, least_thrust):
    """The least fuel of the answers that are optimal, at every other second."""
    teacher = PoweredDescent(dataclasses.replace(checks.CRAFT, least_thrust=least_thrust), 20)
    answers = [teacher.solve(start, float(seconds)) for seconds in range(20, 70, 2)]
    return min((each.fuel for each in answers if each.status == "optimal"), default=math.nan)


def trusted_at_fifty_seconds(start, least_thrust):
    teacher = PoweredDescent(dataclasses.replace(checks.CRAFT, least_thrust=least_thrust), 40)
    found = teacher.solve(start, 50.0)
    return found.fuel if found.status == "optimal" else math.nan


RIGHT = {
    checks.into_the_ring: [
        ring_by_loop, ring_in_torch, ring_by_library,
        lambda *given: np.float32(ring_by_loop(*given)),
        lambda *given: tuple(map(tuple, ring_by_loop(*given))),
        lambda *given: list(np.array(ring_by_loop(*given))),
        ring("T * (size.clip(least, most) / size)"),
        ring("np.where(size < least, T / size * least, np.where(size > most, T / size * most, T))"),
    ],
    checks.upright: [
        best(), scan(44, 104, 2), scan(45, 104, 2),
        best(value="[np.float32(fuel)]", none="np.array([np.nan])"),
        best(value="torch.tensor([fuel])", none="torch.tensor(math.inf)"),
    ],
    checks.trusted_fuel: [
        trusted(), trusted(horizon=20),
        trusted("torch.tensor([fuel if tight else nan])"),
        trusted("np.float32(fuel) if found.slack < 1e-3 and found.short < 0.1 and fuel <= 400 "
                "else np.nan"),
        trusted("[fuel] if tight else float('inf')"),
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
    checks.upright: [
        (best("180.0"), "Is your rule in the list"),
        (best("180.0"), "burns less than 287.5"),
        (best("math.degrees(math.acos(math.cos(most_tilt)))"), "takes radians"),
        (best("90 - most_tilt"), "For 30 degrees"),
        (scan(44, 104, 2, limit=False), "burns less than"),
        (scan(40, 104, 12), "more times of flight"),
        (scan(44, 60, 2), "you find no landing; there is one"),
        (scan(40, 104, 12, least=np.min), "np.nanmin ignores it"),
        (best(none="found.fuel"), "there is no such landing"),
        (best(none="390.0"), "there is none"),
        (best(none="start[6]"), "exp(-inf)"),
        (best(value="start[6] - fuel"), "*left*"),
        (best(value="math.nan"), "there is one"),
        (best(value="-fuel"), "burns less than"),
        (best(value="[fuel, fuel]"), "The fuel"),
        (best(value="'much'"), "should be a number"),
    ],
    checks.trusted_fuel: [
        (trusted("fuel"), "less than the engines must"),
        (trusted("fuel if found.slack < 1e-2 else nan"), "between two"),
        (trusted("fuel if tight else fuel + 5"), "Find the best time first"),
        (trusted("nan if found.status == 'relaxed' else fuel"), "there is no landing"),
        (trusted("nan"), "there is one"),
        (trusted_of_any_time, "Find the best time first"),
        (trusted_at_fifty_seconds, "Is its time of flight the best one?"),
        (trusted("start[6] - fuel if tight else nan"), "*left*"),
        (trusted("found.time_of_flight if tight else nan"), "time of flight"),
        (trusted(least="4972.0"), "reach the craft"),
        (trusted(begin="checks.START"), "reach the solver"),
        (trusted("fuel + 3 if tight else nan"), "best time of flight"),
        (trusted("fuel - 1 if tight else nan"), "best landing burns"),
        (trusted("[fuel, fuel]"), "The fuel"),
        (trusted("'much'"), "should be a number"),
    ],
}
