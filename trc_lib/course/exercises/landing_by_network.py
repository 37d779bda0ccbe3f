"""Checks of chapter 12: an audit of landings, the share that is rejected, new plans on the way."""

import functools
import math
import types
from collections.abc import Iterable

import numpy as np
import torch

from trc_lib.course.exercises.check_result import (
    Wrong,
    as_array,
    exercise,
    judge,
    on_copies,
    refuse,
)
from trc_lib.problems import powered_descent
from trc_lib.systems.lander import Craft
from trc_lib.teachers.landing import check, correct, safe

RULES = ("ring", "fuel", "glide slope", "target")


def _flight(r, craft, mass=1905.0, sizes=(), rate=1.0, late=0.0, low=5.0, slope=None, bearing=0.5,
            start=0.0, end=(0,) * 6):
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
        start: added to the height at the start, m.
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
    states[0, 2] += start
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
    rounded = {"sizes": (0.9992 * least, 1.0008 * most), "rate": 1.0008, "low": -0.08,
               "end": (0.5, -0.5, 0.3, 0.25, -0.25, 0.2)}
    flat = {"slope": mars.glide_slope * math.pi / 180}
    never, burnt = {"sizes": (0.05 * least, 0.3 * least, 0.6 * least)}, {"rate": math.cos(cant)}
    for what, wrong, craft, options in (
        ("sound", "", mars, {}),
        ("sound, with rounding errors", "", mars, rounded),
        ("sound, on the Moon", "", moon, {"mass": 15000.0, "low": 0.0}),
        ("the lower bound of the thrust was never imposed", "ring", mars, never),
        ("one thrust is too long", "ring", mars, {"sizes": (1.0015 * most,)}),
        ("one thrust is too short", "ring", mars, {"sizes": (0.9985 * least,)}),
        ("a burn rate without the cosine of the cant", "fuel", mars, burnt),
        ("what one step burns too much, the next burns too little", "fuel", mars, {"late": 0.1}),
        ("a glide slope in radians was taken as degrees", "glide slope", mars, flat),
        ("three nodes on the way are too low", "glide slope", moon,
         {"mass": 15000.0, "low": -3.0, "bearing": math.pi / 2}),
        ("three nodes on the way are a little too low", "glide slope", mars, {"low": -0.15}),
        ("the rocket ends elsewhere", "target", mars, {"end": (90, -80, 60, 0, 0, 0)}),
        ("it ends beside the target", "target", mars, {"end": (0.8, 0.8, 0.3, 0, 0, 0)}),
        ("it is too fast at the end", "target", moon,
         {"mass": 15000.0, "end": (0, 0, 0, 0.4, 0.3, -0.4)}),
        ("no lower bound, and radians taken as degrees", "ring, glide slope", mars, never | flat),
        ("no cosine, and the rocket ends elsewhere", "fuel, target", mars,
         burnt | {"end": (-40, 30, 25, 0, 0, 0)}),
        ("a burn rate that is 3 % too high", "fuel", mars, {"rate": 1.03}),
        ("a burn rate that is 0.3 % too low", "fuel", mars, {"rate": 0.997}),
        ("a burn rate that is 0.15 % too low", "fuel", mars, {"rate": 0.9985}),
        ("it ends above the target", "target", mars, {"end": (0.1, 0.1, 3.0, 0, 0, 0)}),
        ("it ends a little under the ground", "glide slope", mars,
         {"end": (0.3, 0, -0.6, 0, 0, 0)}),
        ("it starts too low", "glide slope", mars, {"start": -603.0}),
        ("it ends beside and above the target", "target", mars, {"end": (0.6, 0.5, 0.7, 0, 0, 0)}),
        ("it is too fast at the end, to the side and downwards", "target", mars,
         {"end": (0, 0, 0, 0.3, 0.25, -0.35)}),
    ):
        yield what, {*wrong.split(", ")} - {""}, (*_flight(r, craft, **options), craft)
    for i in range(48):
        rule, beyond = RULES[i % len(RULES)], bool(i // len(RULES) % 2)
        what = f"one part of it is {'' if beyond else 'nearly '}too far off"
        yield what, {rule} if beyond else set(), (*_spoilt(r, mars, rule, beyond), mars)


def _spoilt(r, craft, rule, beyond):
    """A sound flight, of which one part is a little beyond what a rule allows, or within it."""
    states, thrusts, h = _flight(r, craft)
    by, k = 1.15 if beyond else 0.85, r.integers(len(thrusts))
    size = np.linalg.norm(thrusts[k])
    if rule == "ring":
        new = r.choice([craft.most_thrust * (1 + 1e-3 * by), craft.least_thrust * (1 - 1e-3 * by)])
        thrusts[k] *= new / size
        states[k + 1:, 6] -= craft.burn_rate * h * (new - size)
    elif rule == "fuel":
        states[k + 1:, 6] -= r.choice([-1, 1]) * 1e-3 * by * craft.burn_rate * h * size
    elif rule == "glide slope":
        steep = math.tan(math.radians(craft.glide_slope))
        states[k, 2] = steep * np.linalg.norm(states[k, :2]) - 0.1 * by
    else:
        ends = np.abs(r.normal(size=(2, 3)))
        ends *= np.array([[1.0], [0.5]]) / np.linalg.norm(ends, axis=1, keepdims=True)
        bys = r.permutation([by, 0.85])
        states[-2, :3] = 0  # it passes the target before it ends beside it
        states[-1, :6] += np.concatenate([ends[0] * bys[0], ends[1] * bys[1]])
    return states, thrusts, h


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
WHOLE = ("Take the length of the whole position and of the whole velocity, not the part to the "
         "side and the part upwards by themselves.")
MISTAKES = {  # the verdicts that common mistakes give, and what to say
    "ring": [
        (lambda m: m.over.max() > 1e-3,
         "You look at the upper limit alone, or allow too much under the lower one."),
        (lambda m: max(m.over.max(), m.under.max()) > 1e-2,
         "You allow too much: 0.1 % is a share of 0.001."),
        (lambda m: m.under.max() > 1e-3,
         "You look at the lower limit alone, or allow too much over the upper one."),
        (lambda m: max(m.over.max(), m.under.max()) > 0, NO_TOLERANCE)],
    "fuel": [
        (lambda m: abs(m.fall.sum() / m.burnt.sum() - 1) > 1e-3,
         "Look at every step, not at the last alone or at the total: errors of two steps may "
         "cancel."),
        (lambda m: (m.fall != m.burnt).any(),
         "You find it in every landing. The mass *falls*: is the sign of what a step burns right, "
         "is |T| the length of each thrust, and is it held for `h` seconds? Is a small error "
         "allowed, as the exercise says?"),
        (lambda m: (np.abs(m.fall / m.burnt - 1) > 1e-5).any(), NO_TOLERANCE),
        (lambda m: (np.abs(m.fall / m.burnt - 1) > 1e-2).any(),
         "You allow too much: 0.1 % is a share of 0.001."),
        (lambda m: (m.fall > 1.001 * m.burnt).any(), "To burn too *little* is a fault, too."),
        (lambda m: (m.fall < 0.999 * m.burnt).any(), "To burn too *much* is a fault, too."),
        *((off, "The error that is allowed is a share of what the *same* step burns, not of the "
                "largest step, nor of all together.")
          for off in (lambda m: (np.abs(m.fall - m.burnt) > 1e-3 * m.burnt.max()).any(),
                      lambda m: np.linalg.norm(m.fall - m.burnt)
                      > 1e-3 * np.linalg.norm(m.burnt)))],
    "glide slope": [
        (lambda m: (m.height < math.tan(m.angle) * m.away - 0.1).any(),
         "You find too much. craft.glide_slope is in degrees, but tan takes radians. (If you "
         "convert it: the altitude is at least tan times the distance, not the distance tan times "
         "the altitude; a node may be as high as it likes; and the distance is no sum.)"),
        (lambda m: (m.height < m.steep * m.downrange - 0.1).any(),
         "Has the horizontal distance both its parts, downrange and crossrange?"),
        (lambda m: (m.height < math.sin(math.radians(m.angle)) * m.away - 0.1).any(),
         "The slope is the tan of the angle."),
        (lambda m: (m.height < m.steep * np.hypot(m.away, m.height) - 0.1).any(),
         "The distance is horizontal: without the altitude."),
        (lambda m: m.below.max() > 0, NO_TOLERANCE),
        (lambda m: m.below.max() > 1, "You allow too much: 0.1 m, and not a metre."),
        (lambda m: m.below[-1] > 0.1, "Look at every node, not at the last alone."),
        (lambda m: m.below[:-1].max() > 0.1, "The last node counts, too."),
        (lambda m: m.below[1:].max() > 0.1, "The first node counts, too."),
        (lambda m: m.below[1:-1].max() > 0.1, "The first node and the last count, too.")],
    "target": [
        (lambda m: np.linalg.norm(m.position) > 1,
         "The velocity at the end counts, too: its length, of all three parts, at most 0.5 m/s."),
        (lambda m: np.linalg.norm(m.speed) > 0.5, "The position at the end counts, too."),
        (lambda m: (m.position > 1).any() or (m.speed > 0.5).any(),
         "Take the length of the position and of the velocity, not their components."),
        (lambda m: max(np.hypot(*m.position[:2]), m.position[2]) > 1
         or max(np.hypot(*m.speed[:2]), m.speed[2]) > 0.5, WHOLE),
        (lambda m: max(np.hypot(*m.position[:2]), m.position[2]) > 1
         or np.linalg.norm(m.speed) > 0.5, WHOLE),
        (lambda m: m.position.sum() > 1 or m.speed.sum() > 0.5,
         "Take the length of the position and of the velocity, not the sum of their components. "
         "(Or is a limit too small? It is 1 m and 0.5 m/s.)"),
        (lambda m: np.hypot(*m.position[:2]) > 1 or np.linalg.norm(m.speed) > 0.5,
         "The altitude at the end counts, too."),
        (lambda m: (m.position > 0).any() or (m.speed > 0).any(), NO_TOLERANCE),
        (lambda m: True, "You find it in every landing. The velocity is `states[-1, 3:6]`; the "
                         "seventh number is the mass.")],
}


def _as_names(given):
    """The learner's names, as a set."""
    refuse((isinstance(given, str), f"Return a set of names, even of one: {{{given!r}}}."),
           (not isinstance(given, Iterable) or torch.is_tensor(given),
            f"Return a set of names, not {type(given).__name__}."))
    refuse((isinstance(given, dict) and any(isinstance(value, (bool, np.bool_)) and not value
                                            for value in given.values()),
            "Return a set with the names of the broken rules alone, not a dict."))
    given = given.ravel().tolist() if isinstance(given, np.ndarray) else [*given]
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
        refuse((not any(mine), f"You never find the fault \"{rule}\"; some of the landings have "
                               "it. Is its rule written, does it look at every step or node, and "
                               "is one broken part enough (`or`)?"))
        i = [a == b for a, b in zip(mine, right)].index(False)
        hint = next((f" {hint}" for mistaken, hint in MISTAKES[rule]
                     if [bool(mistaken(m)) for m in measured] == mine), "")
        raise Wrong(f"Landing {i} ({landings[i][0]}): you "
                    f"{'miss' if right[i] else 'wrongly find'} the fault \"{rule}\"; "
                    f"{_amounts(measured[i])[rule]}.{hint}")
    return "four rules that anybody's landing can be held to, whatever found it."


FLIGHTS = 20


@functools.cache
def _trials():
    """(what it is, (x0, guess, least)): plans before their correction, and fuel to hold them to."""
    problem = powered_descent()
    craft, solved = problem.teacher.craft, problem.dataset(FLIGHTS, seed=4_000_000)
    x0, optimum = solved.initial_states, solved.controls
    least = solved.system.fuel(optimum)
    trials = []
    for error, seed in ((0.02, 3), (0.1, 1)):
        drawn = torch.randn(FLIGHTS, optimum.shape[1], 3, dtype=torch.float64,
                            generator=torch.Generator().manual_seed(seed))
        guess = optimum.clone()
        guess[..., :3] += error * craft.most_thrust / 3**0.5 * drawn
        trials.append((f"the optimum's plans with errors of {error:.0%}", (x0, guess, least)))
    drawn = torch.randn(FLIGHTS, optimum.shape[1], 3, dtype=torch.float64,
                        generator=torch.Generator().manual_seed(4))
    far = optimum.clone()
    far[..., :3] += 0.2 * craft.most_thrust / 3**0.5 * drawn
    upwards = torch.zeros_like(optimum)
    upwards[..., 2], upwards[..., 3] = (craft.least_thrust + craft.most_thrust) / 2, 1.3
    slow = upwards.clone()  # its plans come home, and some then break the glide slope on their way
    slow[..., 3] = 1.75
    return (*trials, ("one plan for all", (x0, upwards, least)),
            ("one plan for all, held to twice the fuel", (x0, upwards, 2 * least)),
            ("the optimum's plans with errors of 20%, held to twice the fuel",
             (x0, far, 2 * least)),
            ("a slower plan for all, held to three times the fuel", (x0, slow, 3 * least)))


@functools.cache
def _shares(trial, iterations=5):
    """Of a trial's plans the share that is rejected, and the shares that mistakes reject."""
    (_, (x0, guess, least)), system = _trials()[trial], powered_descent().teacher.system
    report = check(system, x0, correct(system, x0, guess, iterations))
    unsafe, dear = ~safe(report), report["fuel"] > 1.01 * least
    far = report["position"] >= 1
    kinds = {"rejected": unsafe | dear, "unsafe": unsafe, "dear": dear, "both": unsafe & dear,
             "either": unsafe ^ dear, "grams": unsafe | (report["fuel"] > least + 0.01),
             "tenth": unsafe | (report["fuel"] > 1.1 * least), "far": far | dear,
             "far or fast": far | (report["speed"] >= 0.5) | dear,
             "wide": ~safe(report, (10, 5)) | dear}
    return {name: plans.double().mean().item() for name, plans in kinds.items()}


@exercise
def rejected(answer):
    """Check ``answer(x0, guess, least)``: the share of plans that are not safe, or too dear."""
    given = []
    for _, (x0, guess, least) in _trials():
        share = as_array(on_copies(answer, x0=x0, guess=guess, least=least), (), "The share", {
            (FLIGHTS,): "That is one value for each plan; the share is their mean."}).item()
        refuse((share > 1, f"A share is at most 1; you give {share:g}. Take the mean, not the "
                "count, not per cent, and no sum: a plan that is unsafe *and* too dear counts "
                "once."))
        given.append(share)
    shares = [_shares(trial) for trial in range(len(given))]
    found = {name: np.array([each[name] for each in shares]) for name in shares[0]}
    right = found["rejected"]
    fuel = np.allclose(given[3:], right[3:], atol=1e-6)  # right where there is fuel to spare
    target = ("Those are the plans that miss the target, or burn too much. Not safe is also what "
              "breaks a limit on its way: use `safe(report)`.")
    judge(np.array(given), right, [
        (1 - right, "That is the share of the plans that are *not* rejected."),
        (found["unsafe"], "Those are the plans that are not safe; those that burn more than 1 % "
                          "over `least` are rejected, too."),
        (found["dear"], "Either you count only the plans that burn too much (those that are not "
                        "safe are rejected, too), or you correct more than 5 times (the default "
                        "of `correct` is 8), after which all are safe."),
        (found["both"], "That needs a plan to be unsafe *and* too dear; one of the two is enough: "
                        "`|`."),
        (found["grams"], "That allows too little fuel: rejected is what burns more than 1 % over "
                         "`least`, that is more than 1.01 times `least`."),
        (found["unsafe"] + found["dear"],
         "A plan that is unsafe *and* too dear counts once: `|`, not a sum."),
        (found["far"], target),
        (found["far or fast"], target),
        (found["tenth"], "That allows too much fuel: 1 % over `least` is 1.01 times `least`."),
        (found["either"], "A plan that is unsafe *and* too dear is rejected, too: `|`, not `^`."),
        (found["wide"], "You call safe what ends within 10 m, at 5 m/s; `safe(report)` asks for "
                        "more."),
        *((np.array([_shares(trial, k)["rejected"] for trial in range(len(given))]),
           f"These are the shares after {k or 'no'} iterations of `correct`; give it 5."
           + " (Or is the limit of the fuel wrong? It is 1.01 times `least`.)" * (k == 0))
          for k in (0, 1, 2, 3, 4, 6, 7, 8)),
    ], "; ".join(f"{what}: you give {mine:.0%}, it should be {share:.0%}"
                 for (what, _), mine, share in zip(_trials(), given, right)) + "."
        + " Is the limit of the fuel 1.01 times each plan's own `least`?" * fuel, 1e-6)
    each = ", ".join(f"{share:.0%} of {what}" for (what, _), share in zip(_trials()[:3], right))
    return (f"rejected are {each}. But not safe are only {found['unsafe'][2]:.0%} of the last: "
            "with the correction even that plan nearly always lands, and what is left to learn is "
            "the fuel.")


# seconds between two plans: the least and the largest share of 40 flights that may land
SHARES = {2.0: (0.85, 1.0), 5.0: (0.75, 1.0), 10.0: (0.35, 0.88), 20.0: (0.0, 0.45)}


@exercise
def how_often(answer):
    """Check ``answer(every)``: the share of the flights that land, for some times between plans."""
    given = {}
    for every in SHARES:
        each = "That is one value for each flight; the share is their mean."
        share = as_array(on_copies(answer, every=every), (), "The share",
                         {(flights,): each for flights in (10, 40)}).item()
        refuse((share < 0, f"A share is not negative; you give {share:g}."),
               (share > 1, f"A share is at most 1; you give {share:g}. Take the mean of what has "
                           "landed, not the count, and not per cent."))
        given[every] = share
    first = given[2.0]
    shares = ", ".join(f"{share:.0%} every {every:g} s" for every, share in given.items())
    refuse((not any(given.values()),
            "Nobody lands. Is a new plan made at all? With guess=None there is none."),
           (len({*given.values()}) == 1,
            f"You measure {first:.0%} for every time: does `every` reach landing.descend, and do "
            "all fly with the usual errors?"),
           (all(low <= 1 - share <= high for share, (low, high)
                in zip(given.values(), SHARES.values())),
            "That is the share that does *not* land."))
    for every, (low, high) in SHARES.items():
        refuse((not low <= given[every] <= high,
                f"You measure {shares}. Of craft that plan every {every:g} s the share should be "
                f"between {low:.0%} and {high:.0%}. Do all fly with the usual errors "
                "and reserve, from the first plans of the chapter, with the guess `last`?"))
    return (f"{shares} (with the guess, the first plans, the flights, the errors and the rule for "
            "landing that you took). The older a plan is, the less it fits the craft that flies "
            "it.")
