"""Answers to chapter 12's exercises: right ones, and wrong ones with a part of the message."""

import math

import numpy as np
import torch

from trc_lib.course.exercises import landing_by_network as checks
from trc_lib.course.experiments.landing import arrived
from trc_lib.problems import powered_descent
from trc_lib.teachers.landing import check, correct, safe


def of(parameters, expression):
    """An answer with these parameters that returns the value of an expression."""
    return eval(f"lambda {parameters}: {expression}", {"math": math, "np": np, "torch": torch})


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


# ------------------------------------------------------------------ rejected

def share(value="(unsafe | dear).double().mean()", iterations=5):
    """``value`` of the corrected plans."""
    def answer(x0, guess, least):
        system = powered_descent().teacher.system
        report = check(system, x0, correct(system, x0, guess, iterations))
        landed = arrived(system.rollout(x0, correct(system, x0, guess, iterations))[:, -1])
        return eval(value, {"unsafe": ~safe(report), "report": report, "safe": safe,
                            "landed": landed, "dear": report["fuel"] > 1.01 * least,
                            "over": report["fuel"] / least - 1, "least": least, "np": np,
                            "torch": torch})
    return answer


def share_by_loop(x0, guess, least):
    one = share("float((~unsafe & (over <= 0.01)).all())")
    return 1 - sum(one(x0[i:i + 1], guess[i:i + 1], least[i:i + 1])
                   for i in range(len(x0))) / len(x0)


# ------------------------------------------------------------------ how_often

def shares(*values):
    """An answer that measured these, for 2, 5, 10 and 20 s."""
    return lambda every: dict(zip((2.0, 5.0, 10.0, 20.0), values))[every]


RIGHT = {
    checks.faults: [audit(), audit(form=list), audit(form=frozenset), audit(form=tuple),
                    audit(form=lambda names: np.array([*names])), audit(form=iter),
                    audit(form=lambda names: dict.fromkeys(names).keys()), audit_by_loop],
    checks.rejected: [
        share(), share_by_loop, share("1 - (~unsafe & (over <= 0.01)).double().mean().item()"),
        share("np.float32((unsafe | dear).numpy().mean())"),
        share("[(unsafe | dear).sum().item() / len(dear)]"),
    ],
    checks.how_often: [
        shares(0.98, 0.93, 0.63, 0.2), shares(1.0, 0.975, 0.5, 0.3), shares(1, 1, 0.7, 0),
        lambda every: torch.tensor([0.95 - max(every - 5, 0) / 20]),
        lambda every: np.float32(0.95 - max(every - 5, 0) / 20),
    ],
}

WRONG = {
    checks.faults: [
        (audit(ring="over.max() > 1e-3"), "upper limit alone"),
        (audit(ring="under.max() > 1e-3"), "lower limit alone"),
        (audit(ring="max(over.max(), under.max()) > 0"), "Landing 1 (sound, with rounding"),
        (audit(ring="max(over[-1], under[-1]) > 1e-3"), "every step or node"),
        (audit(ring="not craft.least_thrust < size.mean() < craft.most_thrust"),
         "every step or node"),
        (audit(ring="(abs(thrusts[:, 2]) < craft.least_thrust).any()"), "wrongly find"),
        (audit(ring="max(over.max(), under.max()) > 1e-2"), "You allow too much"),
        (audit(fuel="abs(fall / burnt - 1).max() > 1e-2"), "You allow too much"),
        (audit(slope="(z < tan * away - 1).any()"), "not a metre"),
        (audit(fuel="abs(fall.sum() - burnt.sum()) > 1e-3 * burnt.sum()"), "may cancel"),
        (audit(fuel="abs(fall - burnt).sum() > 1e-3 * burnt.sum()"), "Look at every step"),
        (audit(ring="max(over.max(), under.max()) > 2e-3"), "you miss the fault"),
        (audit(fuel="(abs(fall - burnt) > 2e-3 * burnt).any()"), "you miss the fault"),
        (audit(slope="(z < tan * away - 0.3).any()"), "you miss the fault"),
        (audit(slope="(z < tan * away - 0.05).any()"), "rounding errors): you wrongly"),
        (audit(ring="max(over.max(), under.max()) > 5e-4"), "you wrongly"),
        (audit(target="max(np.hypot(*end[:2]), abs(end[2])) > 1 or norm(end[3:6]) > 0.5"),
         "Take the length of the whole position"),
        (audit(target="max(np.hypot(*end[:2]), abs(end[2])) > 1 or "
                      "max(np.hypot(*end[3:5]), abs(end[5])) > 0.5"), "of the whole velocity"),
        (audit(target="norm(end[:3]) > 1 or max(np.hypot(*end[3:5]), abs(end[5])) > 0.5"),
         "you miss the fault"),
        (audit(target="max(np.hypot(*end[:2]), end[2]) > 1 or norm(end[3:6]) > 0.5"),
         "Landing 22"),
        (audit(target="abs(end[:3]).sum() > 1 or abs(end[3:6]).sum() > 0.5"), "not the sum"),
        (audit(target="norm(end[:6] / np.array([1, 1, 1, 0.5, 0.5, 0.5])) > 1"), "you wrongly"),
        (audit(fuel="(abs(fall - burnt) > 5e-4 * burnt).any()"), "you wrongly"),
        (audit(fuel="abs(fall - burnt).max() > 1e-3 * burnt.max()"), "the *same* step"),
        (audit(fuel="norm(fall - burnt) > 1e-3 * norm(burnt)"), "the *same* step"),
        (audit(fuel="(abs(fall - burnt) > 1e-3 * craft.burn_rate * craft.most_thrust * h).any()"),
         "you miss"),
        (audit(target="norm(end[:3]) > 1 or norm(end[3:]) > 0.5"), "the seventh number"),
        (audit(target="norm(end[:3]) > 1.1 or norm(end[3:6]) > 0.5"), "you miss"),
        (audit(target="(np.linalg.norm(states[:, :3], axis=1) > 1).all() or norm(end[3:6]) > 0.5"),
         "you miss"),
        (audit(target="norm(end[:3]) > 1 or norm(end[3:6]) > 5"), "at most 0.5 m/s"),
        (audit(fuel="(fall != burnt).any()"), "a small error allowed"),
        (audit(fuel="abs(fall + burnt).max() > 1e-3"), "is the sign"),
        (audit(fuel="(burnt - fall > 1e-3 * burnt).any()"), "too *much*"),
        (audit(fuel="not np.allclose(fall, burnt)"), "for rounding"),
        (audit(fuel="(fall > 1.001 * burnt).any()"), "too *little*"),
        (audit(fuel="abs(fall[-1] - burnt[-1]) > 1e-3 * burnt[-1]"), "not at the last alone"),
        (audit(fuel="abs(fall / burnt * math.cos(0.5) - 1).max() > 1e-3"), "kg (+0.00%)"),
        (audit(slope="(z < math.tan(craft.glide_slope) * away - 0.1).any()"), "in degrees"),
        (audit(slope="(z < math.sin(math.radians(craft.glide_slope)) * away - 0.1).any()"),
         "the tan of the angle"),
        (audit(slope="z[-1] < tan * away[-1] - 0.1"), "not at the last alone"),
        (audit(slope="(z < tan * away - 0.1)[:-1].any()"), "last node counts"),
        (audit(slope="(z < tan * away - 0.1)[1:-1].any()"), "first node and the last"),
        (audit(slope="(z < tan * away - 0.1)[1:].any()"), "The first node counts"),
        (audit(slope="(z < away / tan - 0.1).any()"), "not the distance tan times the altitude"),
        (audit(slope="(z < tan * abs(x) - 0.1).any()"), "crossrange"),
        (audit(slope="(z < tan * away).any()"), "0.08 m below the slope"),
        (audit(slope="(z < tan * norm(states[:, :3], axis=1) - 0.1).any()"),
         "without the altitude"),
        (audit(target="norm(end[:3]) > 1 and norm(end[3:6]) > 0.5"), "`or`"),
        (audit(target="norm(end[:3]) > 1"), "velocity at the end counts"),
        (audit(target="norm(end[3:6]) > 0.5"), "position at the end counts"),
        (audit(target="(abs(end[:3]) > 1).any() or (abs(end[3:6]) > 0.5).any()"), "components"),
        (audit(target="norm(end[:6]) > 0"), "for rounding"),
        (audit(target="norm(end[:2]) > 1 or norm(end[3:6]) > 0.5"), "altitude at the end"),
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
    checks.rejected: [
        (share("(~(unsafe | dear)).double().mean()"), "*not* rejected"),
        (share("unsafe.double().mean()"), "not safe"),
        (share("dear.double().mean()"), "count only the plans that burn too much"),
        (share("(unsafe | (over > 1e-4)).double().mean()"), "too little fuel"),
        (share("(unsafe & dear).double().mean()"), "one of the two is enough"),
        (share("(unsafe.double() + dear.double()).mean() / 2"), "it should be"),
        (share("unsafe.double().mean() + dear.double().mean()"), "counts once"),
        (share(iterations=0), "after no iterations"),
        (share(iterations=2), "after 2 iterations"),
        (share(iterations=6), "after 6 iterations"),
        (share(iterations=8), "more than 5 times"),
        (share("((report['position'] >= 1) | dear).double().mean()"), "breaks a limit on its way"),
        (share("((report['position'] >= 1) | (report['speed'] >= 0.5) | dear).double().mean()"),
         "breaks a limit on its way"),
        (share("(~landed | dear).double().mean()"), "it should be"),
        (share("(unsafe | (over > 0.1)).double().mean()"), "too much fuel"),
        (share("(unsafe ^ dear).double().mean()"), "not `^`"),
        (share("(unsafe | (over > 0.02)).double().mean()"), "Is the limit of the fuel"),
        (share("(unsafe | (report['fuel'] > 1.01 * least.mean())).double().mean()"),
         "each plan's own `least`"),
        (share("(~safe(report, (10, 5)) | dear).double().mean()"), "within 10 m, at 5 m/s"),
        (share("(unsafe | dear).sum()"), "at most 1"),
        (share("100 * (unsafe | dear).double().mean()"), "at most 1"),
        (share("unsafe | dear"), "their mean"),
        (share("torch.tensor(0.5)"), "it should be"),
        (share("'few'"), "should be a number"),
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
