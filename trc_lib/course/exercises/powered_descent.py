"""Checks of chapter 11: thrusts put into the ring, a limit of the tilt, the price of the ring."""

import dataclasses
import functools
import math

import numpy as np
import torch

from trc_lib.course.exercises.check_result import (
    Wrong,
    as_array,
    as_number,
    exercise,
    on_copies,
    recognise,
    refuse,
    same,
)
from trc_lib.systems.lander import Craft
from trc_lib.teachers.powered_descent import PoweredDescent


def _thrusts():
    """(thrust, least, most): too short, between and too long; the later ones with zeros."""
    r = np.random.default_rng(110)
    for least, most, zeros in ((5000.0, 13000.0, 0), (300.0, 700.0, 2), (2.0, 3.0, 1)):
        directions = r.normal(size=(12, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        size = np.concatenate([r.uniform(0.1, 0.9, 3) * least, r.uniform(least, most, 3),
                               r.uniform(1.5, 4, 6) * most])
        size[3 - zeros:3] = 0
        yield size[:, None] * directions, least, most


def _has_nan(given):
    """Whether an answer of numbers holds NaN."""
    try:
        given = np.array(given) if isinstance(given, list | tuple) else given
        return bool(torch.as_tensor(given, dtype=torch.float64).isnan().any())
    except (TypeError, ValueError, RuntimeError):  # no numbers: told elsewhere
        return False


NEAR = 3e-6  # `Lander.within` stays 1e-6 of a limit inside it


@exercise
def into_the_ring(answer):
    """Check ``answer(thrust, least, most)``: the nearest thrusts in the ring, ``[N, 3]``."""
    for thrust, least, most in _thrusts():
        given = on_copies(answer, thrust=thrust, least=least, most=most)
        size = np.linalg.norm(thrust, axis=1, keepdims=True)
        zero, up = size[:, 0] == 0, np.array([0, 0, least])
        if zero.any() and _has_nan(given):
            raise Wrong("A thrust of zero becomes NaN, by 0 / 0: it has no direction. Let it "
                        "become (0, 0, least).")
        count = len(thrust)
        given = as_array(given, thrust.shape, "The array of thrusts", {
            (count,): "Those are lengths; return thrusts, [N, 3].",
            (count, 1): "Those are lengths; return thrusts, [N, 3]."})
        direction = thrust / np.where(size == 0, 1, size)
        right = direction * size.clip(least, most)
        means, whole = (size.mean(), size[~zero].mean()), np.linalg.norm(thrust)
        mine, T, rows = given[~zero], thrust[~zero], size[~zero]
        if not same(mine, right[~zero], NEAR):
            recognise(mine, [
                (T * np.minimum(1, most / rows),
                 "Only the upper limit is kept: a thrust that is too short becomes longer."),
                (T * np.maximum(1, least / rows),
                 "Only the lower limit is kept: a thrust that is too long becomes shorter."),
                (T.clip(least, most), T.clip(-most, most), np.sign(T) * np.abs(T).clip(least, most),
                 "You clip the components one by one, which changes the direction. Clip the "
                 "*length*, and scale the thrust."),
                (direction[~zero] * most, "You make every thrust as long as most."),
                (direction[~zero] * least, "You make every thrust as long as least."),
                (direction[~zero], "Those are directions, of length 1; multiply by the length."),
                *((T * np.clip(mean, least, most) / mean,
                   "You clip the mean length; clip the length of each thrust by itself.")
                  for mean in means),
                (T * np.clip(whole, least, most) / whole,
                 "That is the length of the whole array; take one length a row: axis=1."),
                (T, "You return the thrusts unchanged."),
            ], NEAR)
            inside = (rows[:, 0] > least) & (rows[:, 0] < most)
            refuse((same(mine[~inside], right[~zero][~inside], NEAR),
                    "You change thrusts that are in the ring already; each of those is its own "
                    "nearest one."))
            k = int(np.abs(mine - right[~zero]).max(axis=1).argmax())
            raise Wrong(f"For the thrust {T[k].round(2)} of length {rows[k, 0]:.2f}, limits "
                        f"{least:g} and {most:g}, you return {mine[k].round(2)}; it should be "
                        f"{right[~zero][k].round(2)}.")
        if zero.any() and not same(given[zero], np.tile(up, (zero.sum(), 1)), NEAR):
            refuse((not given[zero].any(),
                    "A thrust of zero stays zero, but the engines cannot be off: let it become "
                    "(0, 0, least)."),
                   (True, f"A thrust of zero becomes {given[zero][0].round(2)}; it should become "
                          f"straight up, {up}."))
    return ("the nearest thrusts that the engines can give. The zeros show that the ring is not "
            "convex: all of its thrusts of least length are equally near to zero.")


CRAFT = Craft(glide_slope=4.0)
START = (1500.0, 0.0, 1500.0, 40.0, 40.0, -70.0, 1905.0)  # m, m/s, kg: the chapter's
TILTS = (45.0, 30.0, 20.0, 15.0)  # degrees; with the last there is no landing
COARSE, FINE = 2.0, 0.5  # kg: how much more than the best, and less, the answer may be
STEPS = 5.0  # kg: what a scan of the times in steps of 2 s may cost, near the shortest one


@functools.cache
def _least_fuel(tilt):
    """kg that the best landing burns if the thrust stays so near to upright; NaN without one."""
    found = PoweredDescent(dataclasses.replace(CRAFT, pointing=tilt)).best(START)
    return found.fuel if found.status == "optimal" else math.nan


def _one_fuel(given):
    """The learner's fuel, where NaN and infinity stand for no landing."""
    try:
        plain = given.detach().cpu().numpy() if torch.is_tensor(given) else given
        if np.isinf(plain).all() or np.isnan(plain).all():
            return math.nan
    except (TypeError, ValueError):  # no numbers
        pass
    return as_number(given, "The fuel")


@exercise
def upright(answer):
    """Check ``answer(most_tilt)``: kg of the best landing with a thrust so near to upright."""
    for tilt in TILTS:
        given, right = _one_fuel(on_copies(answer, most_tilt=tilt)), _least_fuel(tilt)
        where = f"For {tilt:g} degrees "
        tanks = START[6] - CRAFT.dry_mass
        refuse((given > START[6] - 1,
                where + "you give the whole mass of the craft. A program without an answer has "
                "the value -inf, and exp(-inf) is 0: skip the times that are not feasible."),
               (CRAFT.dry_mass - FINE <= given,
                where + "that is the mass that is *left*; return the fuel that is burnt."),
               (given > tanks,
                where + f"you give {given:.0f} kg, but the tanks hold {tanks:.0f}: there is no "
                "such landing."))
        rule = ("Is your rule in the list that the program gets, for all nodes? At 0 degrees the "
                "whole thrust must point upwards. And math.cos takes radians.")
        if math.isnan(right):
            refuse((not math.isnan(given),
                    where + f"you find a landing with {given:.1f} kg; there is none. {rule}"))
            continue
        refuse((math.isnan(given),
                where + "you find no landing; there is one. Does the nan of one time spoil the "
                "rest (np.nanmin ignores it)? Or are the times too short? The narrower the limit, "
                "the longer the flight."),
               (given < right - FINE,
                where + f"you give {given:.1f} kg; no landing that keeps the rule burns less than "
                f"{right:.1f}. {rule}"),
               (given > right + STEPS,
                where + f"you give {given:.1f} kg; there is a landing with {right:.1f}. Try more "
                "times of flight, between those that you try and beyond them, and 20 steps."))
    costs = [_least_fuel(tilt) for tilt in (180.0, *TILTS[:-1])]
    more = ", ".join(f"{cost - costs[0]:.0f} kg for {tilt:g}°"
                     for cost, tilt in zip(costs[1:], TILTS))
    return f"the rule costs {more}, and at {TILTS[-1]:g}° there is no landing. Was that your guess?"


ABOVE = (0.0, 0.0, 600.0, 0.0, 0.0, -20.0, 1905.0)  # the chapter's landing that is not tight
ASIDE = (70.0, *ABOVE[1:])
FAR = (2000.0, 0.0, 1500.0, 100.0, 40.0, -75.0, 1905.0)  # the chapter's start without a landing
RINGS = ((START, 50.0), (START, CRAFT.least_thrust), (START, 9_000.0), (START, 12_000.0),
         (ABOVE, 12_000.0), (ABOVE, 9_000.0),  # start, N; from ABOVE these are not tight
         (ABOVE, CRAFT.least_thrust),  # nor is this one in its best time, but in 26 s it is
         (ASIDE, 12_000.0),  # tight at its nodes, and far too short between two of them
         (FAR, CRAFT.least_thrust))


@functools.cache
def _landing(start, least_thrust):
    """The best landing of a craft whose engines push at least so strongly."""
    return PoweredDescent(dataclasses.replace(CRAFT, least_thrust=least_thrust)).best(start)


@exercise
def trusted_fuel(answer):
    """Check ``answer(start, least_thrust)``: kg of the best landing; NaN if relaxed or none."""
    fuels, usual = [], _landing(*RINGS[1]).fuel
    for start, least in RINGS:
        given, right = (_one_fuel(on_copies(answer, start=torch.tensor(start).double(),
                                            least_thrust=least)), _landing(start, least))
        fuels.append(right.fuel)
        aside = f", {start[0]:g} m aside," * (start == ASIDE)
        where = f"From {start[2]:g} m{aside} with at least {least:,.0f} N "
        if right.status != "optimal":
            refuse((abs(given - _landing(START, least).fuel) < FINE,
                    where + "you give the fuel from the chapter's start. Does the argument "
                    "`start` reach the solver?"),
                   (right.status == "infeasible" and not math.isnan(given),
                    f"From the published start with 40 m/s of drift you give {given:.1f} kg, but "
                    "the tanks do not hold that: there is no landing. Look at its `status`, and "
                    "return math.nan."),
                   (right.status == "relaxed" and given > right.fuel + COARSE,
                    where + f"you give {given:.1f} kg. The best answer needs {right.fuel:.1f}, and "
                    "is relaxed. Find the best time first, and look at the status of *that* "
                    "answer."),
                   (not math.isnan(given),
                    where + f"you give {given:.1f} kg, but that landing cannot be flown: it "
                    "pushes with less than the engines must, at a node or between two. Look at "
                    "its `status`, and return math.nan."))
            continue
        refuse((math.isnan(given),
                where + "you find no landing that can be flown; there is one. (Is its time "
                "of flight the best one? `best` searches for that; in another time an answer may "
                "be relaxed. So may it with few steps: take 40. Its `status` says whether the "
                "craft can fly it.)"),
               (CRAFT.dry_mass - FINE <= given,
                where + "that is the mass that is *left*; return the fuel that is burnt."),
               (abs(given - right.time_of_flight) < FINE,
                where + "that is the time of flight; return the fuel."),
               (abs(given - usual) < FINE < abs(given - right.fuel),
                where + f"you give {given:.1f} kg, what the craft of the chapter burns. Does "
                "`least_thrust` reach the craft?"),
               (not right.fuel - FINE <= given <= right.fuel + COARSE,
                where + f"you give {given:.1f} kg; the best landing burns {right.fuel:.1f}. Is it "
                "the best time of flight, and is only the least thrust another?"))
    ring, strong = usual - fuels[0], fuels[3] - usual
    return (f"engines that can push with as little as 50 N would save {ring:.1f} of {usual:.0f} "
            f"kg, and those that push with at least 12 kN burn {strong:.0f} kg more. Was that your "
            "guess?")
