"""Checks of chapter 11: a burn rate, thrusts put into the ring, an audit of landings, hovering."""

import math
import types

import numpy as np
import torch

from trc_lib.course.exercises.check_result import (
    Wrong,
    as_array,
    as_number,
    exercise,
    judge,
    on_copies,
    recognise,
    refuse,
    same,
)
from trc_lib.systems.lander import Craft


@exercise
def burn_rate(answer):
    """Check ``answer(isp, standard_gravity, cant)``: kg/s for each newton along the axis."""
    for isp, gravity, cant in ((225.0, 9.807, 27.0), (311.0, 9.80665, 10.0), (180.0, 9.81, 40.0)):
        given = on_copies(answer, isp=isp, standard_gravity=gravity, cant=cant)
        given = as_number(given, "The burn rate")
        cos, sin = math.cos(math.radians(cant)), math.sin(math.radians(cant))
        right, straight = 1 / (isp * gravity * cos), 1 / (isp * gravity)
        judge(given / right, 1, [(*(wrong / right for wrong in outcomes), message)
                                 for *outcomes, message in [
            (straight, "The cosine of the cant is missing. A published paper forgets it, too: its "
                       "lander seems to save 20 to 40 kg of fuel that no lander saves."),
            (straight * cos, "You multiply by the cosine. The engines push less along the axis "
                             "than they burn for: *divide* by it."),
            (straight / math.cos(cant), straight * math.cos(cant), straight / math.sin(cant),
             straight * math.sin(cant),
             "The cant is in degrees, but cos and sin take radians: math.radians(cant)."),
            (straight / sin, straight * sin,
             "That is the sine, the part sideways, which cancels; the part along the axis is the "
             "cosine."),
            (1 / (isp * cos), 1 / isp, cos / isp,
             "The division by the standard gravity is missing."),
            (gravity / (isp * cos), gravity / isp, "Divide by the standard gravity, too."),
            (1 / right, isp * gravity, isp * gravity / cos,
             "That is the inverse: newtons for each kg/s."),
            (isp / (gravity * cos), isp / gravity,
             "An engine with a larger specific impulse burns *less*: divide by isp."),
            (6 * right, right / 6,
             "Neither times nor over six: both the thrust and the fuel are those of all engines."),
            (-right, "The rate counts what is burnt: it is positive."),
        ]], f"For isp = {isp:g} s, {gravity:g} m/s² and {cant:g}° you give {given:.4e}; it should "
            f"be {right:.4e}.", tolerance=1e-5)
    return "what the engines push against each other burns fuel, and lifts nothing."


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


@exercise
def into_the_ring(answer):
    """Check ``answer(thrust, least, most)``: the nearest thrusts in the ring, ``[N, 3]``."""
    for thrust, least, most in _thrusts():
        given = on_copies(answer, thrust=thrust, least=least, most=most)
        size = np.linalg.norm(thrust, axis=1, keepdims=True)
        zero, up = size[:, 0] == 0, np.array([0, 0, least])
        plain = given.detach() if torch.is_tensor(given) else given
        if zero.any() and np.isnan(np.asarray(plain, dtype=float)).any():
            raise Wrong("A thrust of zero becomes NaN, by 0 / 0: it has no direction. Let it "
                        "become (0, 0, least).")
        count = len(thrust)
        given = as_array(given, thrust.shape, "The thrusts", {
            (count,): "Those are lengths; return thrusts, [N, 3].",
            (count, 1): "Those are lengths; return thrusts, [N, 3]."})
        direction = thrust / np.where(size == 0, 1, size)
        right = direction * size.clip(least, most)
        means, whole = (size.mean(), size[~zero].mean()), np.linalg.norm(thrust)
        mine, T, rows = given[~zero], thrust[~zero], size[~zero]
        if not same(mine, right[~zero], 1e-6):
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
            ], 1e-6)
            inside = (rows[:, 0] > least) & (rows[:, 0] < most)
            refuse((same(mine[~inside], right[~zero][~inside], 1e-6),
                    "You change thrusts that are in the ring already; each of those is its own "
                    "nearest one."))
            k = int(np.abs(mine - right[~zero]).max(axis=1).argmax())
            raise Wrong(f"For the thrust {T[k].round(2)} of length {rows[k, 0]:.2f}, limits "
                        f"{least:g} and {most:g}, you return {mine[k].round(2)}; it should be "
                        f"{right[~zero][k].round(2)}.")
        if zero.any() and not same(given[zero], np.tile(up, (zero.sum(), 1)), 1e-6):
            refuse((not given[zero].any(),
                    "A thrust of zero stays zero, but the engines cannot be off: let it become "
                    "(0, 0, least)."),
                   (True, f"A thrust of zero becomes {given[zero][0].round(2)}; it should become "
                          f"straight up, {up}."))
    return ("the nearest thrusts that the engines can give. The zeros show that the ring is not "
            "convex: all of its thrusts of least length are equally near to zero.")


RULES = ("ring", "fuel", "glide slope", "target")


def _flight(r, craft, mass=1905.0, sizes=(), rate=1.0, late=0.0, low=5.0, slope=None, bearing=0.5,
            end=(0,) * 6):
    """States, thrusts and h of an invented flight, which keeps the four rules by default.

    Args:
        r: a random generator.
        craft: whose rules are kept.
        mass: at the start, kg.
        sizes: lengths of the first thrusts, in place of random ones.
        rate: by which the burnt fuel is multiplied.
        late: kg that one step burns too much, and the next too little.
        low: how far above the glide slope the lowest of the nodes are, m.
        slope: elevation of the whole path (degrees) in place of the usual path.
        bearing: from where it comes, radians.
        end: added to position and velocity at the end.
    """
    N, h = 20, 3.0
    left, steep = np.linspace(1, 0, N + 1) ** 2, math.tan(math.radians(craft.glide_slope))
    size = r.uniform(craft.least_thrust, craft.most_thrust, N)
    size[:len(sizes)] = sizes
    tilt = np.array([0, 0, 1]) + 0.3 * r.normal(size=(N, 3))
    thrusts = size[:, None] * tilt / np.linalg.norm(tilt, axis=1, keepdims=True)
    away, states = 1800 * left, np.zeros((N + 1, 7))
    height = steep * away + 600 * left
    height[6:9] = steep * away[6:9] + low
    if slope is not None:
        height = math.tan(math.radians(slope)) * away
    states[:, :3] = np.stack([math.cos(bearing) * away, math.sin(bearing) * away, height], axis=1)
    states[:, 3:6] = np.sqrt(left)[:, None] * np.array([-60, 10, -40])
    states[-1, :6] += end
    states[:, 6] = mass
    states[1:, 6] -= np.cumsum(craft.burn_rate * size * h * rate)
    states[10, 6] -= late
    return states, thrusts, h


def _landings():
    """(what it is, its faults, (states, thrusts, h, craft)) of every landing in the audit."""
    r = np.random.default_rng(111)
    mars = Craft(glide_slope=4.0)
    moon = Craft(gravity=1.62, dry_mass=7000.0, least_thrust=1e4, most_thrust=4.5e4,
                 burn_rate=1 / (311 * 9.807), glide_slope=20.0)
    least, most, cant = mars.least_thrust, mars.most_thrust, math.radians(27)
    rounded = {"sizes": (0.9996 * least, 1.0004 * most), "rate": 1.0004, "low": -0.04,
               "end": (0.4, -0.4, 0.1, 0.2, -0.2, 0.1)}
    flat = {"slope": mars.glide_slope * math.pi / 180}
    never, burnt = {"sizes": (0.05 * least, 0.3 * least, 0.6 * least)}, {"rate": math.cos(cant)}
    for what, wrong, craft, options in (
        ("sound", "", mars, {}),
        ("sound, with rounding errors", "", mars, rounded),
        ("sound, on the Moon", "", moon, {"mass": 15000.0, "low": 0.0}),
        ("the lower bound of the thrust was never imposed", "ring", mars, never),
        ("one thrust is too long", "ring", mars, {"sizes": (1.03 * most,)}),
        ("a burn rate without the cosine of the cant", "fuel", mars, burnt),
        ("what one step burns too much, the next burns too little", "fuel", mars, {"late": 1.0}),
        ("a glide slope in radians was taken as degrees", "glide slope", mars, flat),
        ("three nodes on the way are too low", "glide slope", moon,
         {"mass": 15000.0, "low": -3.0, "bearing": math.pi / 2}),
        ("the rocket ends elsewhere", "target", mars, {"end": (90, -80, 60, 0, 0, 0)}),
        ("it ends beside the target", "target", mars, {"end": (0.8, 0.8, 0.3, 0, 0, 0)}),
        ("it is too fast at the end", "target", moon,
         {"mass": 15000.0, "end": (0, 0, 0, 0.4, 0.3, -0.4)}),
        ("no lower bound, and radians taken as degrees", "ring, glide slope", mars, never | flat),
        ("no cosine, and the rocket ends elsewhere", "fuel, target", mars,
         burnt | {"end": (-40, 30, 25, 0, 0, 0)}),
    ):
        yield what, {*wrong.split(", ")} - {""}, (*_flight(r, craft, **options), craft)


def _measured(states, thrusts, h, craft):
    """What the rules are about, and the craft's limits."""
    size = np.linalg.norm(thrusts, axis=1)
    away, height = np.hypot(states[:, 0], states[:, 1]), states[:, 2]
    steep = math.tan(math.radians(craft.glide_slope))
    return types.SimpleNamespace(
        size=size, over=size / craft.most_thrust - 1, under=1 - size / craft.least_thrust,
        fall=-np.diff(states[:, 6]), burnt=craft.burn_rate * size * h,
        below=steep * away - height, away=away, height=height, downrange=np.abs(states[:, 0]),
        angle=craft.glide_slope, steep=steep, position=np.abs(states[-1, :3]),
        speed=np.abs(states[-1, 3:6]))


def _amounts(m):
    """How far each rule is kept or broken, in words."""
    k, low = int(np.abs(m.fall / m.burnt - 1).argmax()), m.below.max()
    return {
        "ring": f"its shortest thrust is {1 - m.under.max():.4f} times the least, its longest "
                f"{1 + m.over.max():.4f} times the most",
        "fuel": f"in the step that is furthest off the mass falls by {m.fall[k]:.4f} kg, and "
                f"burn_rate |T| h is {m.burnt[k]:.4f} kg ({m.fall[k] / m.burnt[k] - 1:+.2%})",
        "glide slope": "its lowest node is "
                       f"{abs(low):.2f} m {'below' if low > 0 else 'above'} the slope",
        "target": f"it ends {np.linalg.norm(m.position):.2f} m from the target, at "
                  f"{np.linalg.norm(m.speed):.2f} m/s"}


NO_TOLERANCE = "A small error is allowed, for rounding; the exercise says how much."
MISTAKES = {  # the verdicts that common mistakes give, and what to say
    "ring": [
        (lambda m: m.over.max() > 1e-3, "You look at the upper limit alone."),
        (lambda m: m.under.max() > 1e-3, "You look at the lower limit alone."),
        (lambda m: max(m.over.max(), m.under.max()) > 0, NO_TOLERANCE),
        (lambda m: max(m.over[-1], m.under[-1]) > 1e-3,
         "Look at the length of every thrust, not at the last alone or at the mean.")],
    "fuel": [
        (lambda m: abs(m.fall.sum() / m.burnt.sum() - 1) > 1e-3,
         "Look at every step, not at the last alone or at the total: errors of two steps may "
         "cancel."),
        (lambda m: (m.fall != m.burnt).any(), NO_TOLERANCE),
        (lambda m: (np.abs(m.fall / m.burnt - 1) > 1e-5).any(), NO_TOLERANCE),
        (lambda m: (m.fall > 1.001 * m.burnt).any(), "To burn too *little* is a fault, too.")],
    "glide slope": [
        (lambda m: (m.height < math.tan(m.angle) * m.away - 0.1).any(),
         "craft.glide_slope is in degrees, but tan takes radians."),
        (lambda m: m.below[-1] > 0.1, "Look at every node, not at the last alone."),
        (lambda m: (m.height < m.steep * m.downrange - 0.1).any(),
         "The horizontal distance has two parts, downrange and crossrange."),
        (lambda m: m.below.max() > 0, NO_TOLERANCE)],
    "target": [
        (lambda m: np.linalg.norm(m.position) > 1, "The velocity at the end counts, too."),
        (lambda m: np.linalg.norm(m.speed) > 0.5, "The position at the end counts, too."),
        (lambda m: (m.position > 1).any() or (m.speed > 0.5).any(),
         "Take the length of the position and of the velocity, not their components."),
        (lambda m: (m.position > 0).any() or (m.speed > 0).any(), NO_TOLERANCE)],
}


def _as_names(given):
    """The learner's names, as a set."""
    refuse((isinstance(given, str), f"Return a set of names, even of one: {{{given!r}}}."),
           (not isinstance(given, list | tuple | set | frozenset),
            f"Return a set of names, not {type(given).__name__}."))
    for name in given:
        refuse((name not in RULES,
                f"{name!r} is none of the rules; their names are {', '.join(map(repr, RULES))}."))
    return set(given)


@exercise
def faults(answer):
    """Check ``answer(states, thrusts, h, craft)``: the names of the rules that are broken."""
    landings = [*_landings()]
    given = [_as_names(on_copies(answer, **dict(zip(("states", "thrusts", "h", "craft"), each))))
             for *_, each in landings]
    refuse((not any(given), "You find no fault in any landing; most of them have one."),
           (all(names == set(RULES) for names in given),
            "You find every fault in every landing; some of them are sound."))
    measured = [_measured(*each) for *_, each in landings]
    for rule in RULES:
        mine = [rule in names for names in given]
        right = [rule in wrong for _, wrong, _ in landings]
        if mine == right:
            continue
        i = [a == b for a, b in zip(mine, right)].index(False)
        hint = next((f" {hint}" for mistaken, hint in MISTAKES[rule]
                     if [bool(mistaken(m)) for m in measured] == mine), "")
        raise Wrong(f"Landing {i} ({landings[i][0]}): you "
                    f"{'miss' if right[i] else 'wrongly find'} the fault \"{rule}\"; "
                    f"{_amounts(measured[i])[rule]}.{hint}")
    return "four rules that anybody's landing can be held to, whatever found it."


@exercise
def hovering(answer):
    """Check ``answer(mass, seconds, gravity, burn_rate)``: kg of fuel."""
    for mass, t, g, rate in ((1905.0, 60.0, 3.7114, 5.086e-4), (15000.0, 100.0, 1.62, 3.279e-4),
                             (600.0, 30.0, 9.81, 4e-4)):
        given = on_copies(answer, mass=mass, seconds=t, gravity=g, burn_rate=rate)
        given = as_number(given, "The fuel")
        share = rate * g * t
        right = mass * -math.expm1(-share)
        judge(given / right, 1, [(*(wrong / right for wrong in outcomes), message)
                                 for *outcomes, message in [
            (mass * share, "That is for a constant mass; but the craft becomes lighter, and then "
                           "needs less thrust."),
            (mass * -math.expm1(-g * t), mass * g * t,
             "The burn rate is missing: kg/s for each newton."),
            (mass * -math.expm1(-rate * t), mass * rate * t,
             "Gravity is missing: the thrust is the weight, mass times gravity."),
            (mass - right, "That is the mass that is *left*; return what was burnt."),
            (-right, right - mass, "The sign is reversed: fuel that is burnt is positive."),
            (mass * math.expm1(share), -mass * math.expm1(share),
             "The sign in the exponent is reversed: the mass shrinks."),
            (mass * -math.expm1(-share * g), mass * share * g,
             "Gravity counts twice; the thrust is mass times gravity, once."),
            (right / mass, "That is a share of the mass; multiply by the mass."),
            (rate * g * mass, "That is the rate at the beginning, kg/s."),
        ]], f"For {mass:g} kg, {t:g} s, {g:g} m/s² and a burn rate of {rate:g} you give "
            f"{given:.4g} kg; it should be {right:.4g} kg.", tolerance=1e-4)
    return "the mass shrinks by the same share in each second, as long as the craft hovers."
