"""Answers to chapter 2's exercises: right ones, and wrong ones with a part of the message."""

import numpy as np
import scipy.spatial
import torch

from trc_lib.course.exercises import dataset


def memory_student(known, answers, tests, final_state, guesses=(0.5, 0.0), use=slice(None),
                   size=np.linalg.norm, of=np.mean):
    errors = []
    for test in tests:
        nearest = scipy.spatial.KDTree(known[:, use]).query(test[:, use])[1]
        off = final_state(test[:, :2], answers[nearest]) - test[:, 2:]
        errors.append(of([size(each) for each in off]))
    return guesses, errors


def by_all_differences(known, answers, tests, final_state):
    errors = []
    for test in tests:
        apart = np.abs(test[:, None] - known) ** 2                        # [m, n, 4]
        u = torch.from_numpy(answers[apart.sum(axis=2).argmin(axis=1)])
        off = final_state(test[:, :2], u) - test[:, 2:]
        errors.append(np.hypot(*off.T).mean())
    return [1, 2], torch.tensor(errors)


def without_target(known, answers, tests, final_state):
    guesses, errors = memory_student(known, answers, tests, final_state)
    return guesses, [errors[0], 0.3]


def from_known_starts(known, answers, tests, final_state):
    rows = [scipy.spatial.KDTree(known).query(test)[1] for test in tests]
    off = [final_state(known[i, :2], answers[i]) - test[:, 2:] for test, i in zip(tests, rows)]
    return (1, 0), [np.linalg.norm(each, axis=1).mean() for each in off]


def control_bounds(gain, low, high, wide=0.5):
    return np.abs(gain @ (low + high) / 2) + np.abs(gain) @ (wide * (high - low))


def sampled_bounds(gain, low, high):
    return np.abs(np.random.default_rng(0).uniform(low, high, (999, len(low))) @ gain.T).max(axis=0)


def leaked(train, test, tolerance=1e-6):
    return np.flatnonzero(scipy.spatial.KDTree(train).query(test, p=np.inf)[0] <= tolerance)


def by_distance(train, test, tolerance):
    return np.flatnonzero(scipy.spatial.KDTree(train).query(test)[0] <= tolerance)


def same(train, test):
    return np.abs(test[:, None] - train) <= 1e-6  # [m, n, 4]


def same_row(train, test):
    n = min(len(train), len(test))
    return np.flatnonzero((train[:n] == test[:n]).all(axis=1))


def rounded(train, test, decimals):
    known = set(map(tuple, train.round(decimals)))
    return [i for i, row in enumerate(test.round(decimals)) if tuple(row) in known]


def physical_loss(scaled, targets, sigma, power=1):
    return ((scaled * sigma**power - targets) ** 2).mean()


def scaled_loss(scaled, targets, sigma):
    return ((scaled - targets / sigma) ** 2).mean()


RIGHT = {
    dataset.control_bounds: [
        control_bounds,
        lambda *a: np.float32(control_bounds(*a)),
        lambda *a: control_bounds(*a).tolist(),
        lambda G, a, b: np.maximum(*(np.abs((np.where(up, b, a) * G).sum(1))
                                     for up in (G > 0, G < 0))),
    ],
    dataset.memory_student: [
        memory_student,
        by_all_differences,
        lambda *p: [np.float32(part) for part in memory_student(*p)],
    ],
    dataset.leaked: [
        leaked,
        lambda train, test: {*leaked(train, test)},
        lambda train, test: frozenset(leaked(train, test).tolist()),
        lambda train, test: leaked(train, test) / 1,
        lambda train, test: (i for i in leaked(train, test)),
        lambda train, test: torch.from_numpy(leaked(train, test)),
        lambda train, test: np.flatnonzero(np.isclose(
            test[:, None], train, rtol=0, atol=1e-6).all(2).any(1)),
        lambda train, test: [i for i, row in enumerate(same(train, test).all(2))
                             if row.any()][::-1],
    ],
    dataset.physical_loss: [
        physical_loss,
        lambda *a: [physical_loss(*a)],
        lambda *a: torch.tensor(physical_loss(*a), dtype=torch.float32),
        lambda s, t, sigma: ((s - t / sigma) ** 2 * sigma**2).mean(),
    ],
}

WRONG = {
    dataset.memory_student: [
        (lambda *p: memory_student(*p, use=slice(2)), "start only"),
        (lambda *p: memory_student(*p, use=slice(2, 4)), "target only"),
        (lambda *p: memory_student(*p, of=np.median), "median"),
        (lambda *p: memory_student(*p, size=lambda off: (off**2).sum()), "squares"),
        (lambda *p: memory_student(*p, size=lambda off: np.abs(off).mean()), "both numbers"),
        (lambda *p: memory_student(*p, size=lambda off: np.abs(off).sum()), "both numbers"),
        (lambda *p: (0, memory_student(*p)[1]), "guesses has shape"),
        (lambda *p: (None, memory_student(*p)[1]), "guesses first"),
        (lambda *p: memory_student(*p)[::-1], "you measure"),
        (lambda *p: ((1, 1), memory_student(*p)[1][::-1]), "The order"),
        (lambda *p: memory_student(*p, of=np.max), "you measure"),
        (without_target, "the same problem"),
        (from_known_starts, "where the *known* problems start"),
        (lambda known, answers, *p: memory_student(known, 0 * answers, *p), "no push at all"),
        (lambda *p: ([None, None], memory_student(*p)[1]), "guesses first"),
        (lambda *p: ((0.5, ...), memory_student(*p)[1]), "guesses first"),
        (lambda *p: 0.7, "Return two things"),
    ],
    dataset.control_bounds: [
        (lambda G, a, b: np.abs(G) @ (b - a) / 2, "centre"),
        (lambda G, a, b: control_bounds(G, a, b, wide=1), "half of high"),
        (lambda G, a, b: np.maximum(np.abs(G @ a), np.abs(G @ b)), "only two"),
        (lambda G, a, b: np.abs(G @ b), "one of the 16 corners"),
        (lambda G, a, b: G @ (a + b) / 2 + np.abs(G) @ (b - a) / 2, "with its sign"),
        (lambda G, a, b: np.abs(G) @ np.maximum(np.abs(a), np.abs(b)), "loose"),
        (lambda G, a, b: (np.abs(G) * np.maximum(np.abs(a), np.abs(b))).max(1), "add up"),
        (lambda G, a, b: np.full(len(G), control_bounds(G, a, b).max()), "Each control"),
        (sampled_bounds, "not a bound"),
        (lambda G, a, b: np.linalg.norm(G, axis=1) * np.hypot(np.abs(a), np.abs(b)).max() * 4,
         "not exact"),
        (lambda G, a, b: control_bounds(G, a, b)[:, None], "drop the last axis"),
        (lambda G, a, b: -control_bounds(G, a, b), "sign"),
        (lambda G, a, b: 1.0002 * control_bounds(G, a, b), "not exact"),
    ],
    dataset.leaked: [
        (lambda train, test: np.flatnonzero((test[:, None] == train).all(2).any(1)),
         "exact copies"),
        (lambda train, test: leaked(test, train), "training set"),
        (lambda train, test: leaked(train, test, tolerance=0.01), "too wide"),
        (lambda train, test: np.flatnonzero(same(train, test)[:, :, :2].all(2).any(1)),
         "another target"),
        (lambda train, test: np.flatnonzero(np.isin(test, train).all(1)), "another target"),
        (lambda train, test: same(train, test).all(2).any(1), "mask"),
        (lambda train, test: np.where(same(train, test).all(2).any(1)), "tuple"),
        (lambda train, test: np.nonzero(same(train, test).all(2))[0], "more than once"),
        (lambda train, test: np.setdiff1d(np.arange(len(test)), leaked(train, test)),
         "other way round"),
        (same_row, "none"),
        (lambda train, test: np.flatnonzero(same(train, test).all(2).all(1)), "any of them"),
        (lambda train, test: by_distance(train, test, 1e-6), "not for the distance"),
        (lambda train, test: by_distance(train, test, 2e-6), "differ by 1.5e-06"),
        (lambda train, test: np.flatnonzero((test[:, None] - train <= 1e-6).all(2).any(1)),
         "np.abs first"),
        (lambda train, test: np.argwhere(same(train, test).all(2).any(1)), "np.argwhere"),
        (lambda train, test: leaked(train, test)[1:], "missed"),
        (lambda train, test: test[leaked(train, test)], "one-dimensional"),
        (lambda train, test: leaked(train, test) + 0.5, "whole numbers"),
        (lambda train, test: leaked(train, test) + 1, "one too high"),
        *[(lambda train, test, wide=wide: np.flatnonzero(
            (np.abs(test[:, None] - train) <= wide).all(2).any(1)), "differ by 1.5e-06")
          for wide in (5e-6, 1e-4)],
        (lambda train, test: np.flatnonzero(np.isclose(test[:, None], train).all(2).any(1)),
         "rtol"),
        (lambda train, test: np.flatnonzero(np.isclose(
            test[:, None], train, rtol=1e-6, atol=1e-6).all(2).any(1)), "rtol"),
        *[(lambda train, test, d=d: rounded(train, test, d), "separates neighbours")
          for d in (4, 5, 6)],
    ],
    dataset.physical_loss: [
        (lambda s, t, sigma: ((s - t) ** 2).mean(), "forgotten"),
        (scaled_loss, "in units of sigma²"),
        (lambda *a: physical_loss(*a, power=-1), "multiply"),
        (lambda *a: physical_loss(*a, power=2), "sigma twice"),
        (lambda s, t, sigma: (sigma * (s - t / sigma) ** 2).mean(), "must be squared"),
        (lambda s, t, sigma: scaled_loss(s, t, sigma) * (sigma**2).mean(), "No single factor"),
        (lambda *a: np.sqrt(physical_loss(*a)), "root"),
        (lambda s, t, sigma: np.abs(s * sigma - t).mean(), "|error|"),
        (lambda s, t, sigma: (s * sigma - t).mean() ** 2, "cancel"),
        (lambda s, t, sigma: ((s * sigma - t) ** 2).sum(), "sum"),
        (lambda s, t, sigma: ((s * sigma - t) ** 2).sum(axis=(1, 2)).mean(), "steps and controls"),
        (lambda s, t, sigma: ((s * sigma - t) ** 2).mean(axis=0), "shape"),
        (lambda *a: 7 * physical_loss(*a), "the right one"),
    ],
}
