"""Answers to chapter 2's exercises: right ones, and those that learners plausibly give, with a word of what they are told."""

import numpy as np
import scipy.spatial

from trc_lib.course.exercises import dataset


def control_bounds(gain, low, high, wide=0.5):
    return np.abs(gain @ (low + high) / 2) + np.abs(gain) @ (wide * (high - low))


def sampled_bounds(gain, low, high):
    return np.abs(np.random.default_rng(0).uniform(low, high, (999, len(low))) @ gain.T).max(axis=0)


def leaked(train, test, tolerance=1e-6):
    return np.flatnonzero(scipy.spatial.KDTree(train).query(test)[0] <= 2 * tolerance)


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


RIGHT = [
    (dataset.control_bounds, control_bounds),
    (dataset.control_bounds, lambda G, a, b: np.maximum(*(np.abs((np.where(up, b, a) * G).sum(1)) for up in (G > 0, G < 0)))),
    (dataset.leaked, leaked),
    (dataset.leaked, lambda train, test: [i for i, row in enumerate(same(train, test).all(2)) if row.any()][::-1]),
    (dataset.physical_loss, physical_loss),
    (dataset.physical_loss, lambda s, t, sigma: ((s - t / sigma) ** 2 * sigma**2).mean()),
]

WRONG = [
    (dataset.control_bounds, lambda G, a, b: np.abs(G) @ (b - a) / 2, "centre"),
    (dataset.control_bounds, lambda G, a, b: control_bounds(G, a, b, wide=1), "half of high"),
    (dataset.control_bounds, lambda G, a, b: np.maximum(np.abs(G @ a), np.abs(G @ b)), "only two"),
    (dataset.control_bounds, lambda G, a, b: np.abs(G @ b), "only one"),
    (dataset.control_bounds, lambda G, a, b: G @ (a + b) / 2 + np.abs(G) @ (b - a) / 2, "with its sign"),
    (dataset.control_bounds, lambda G, a, b: np.abs(G) @ np.maximum(np.abs(a), np.abs(b)), "loose"),
    (dataset.control_bounds, lambda G, a, b: (np.abs(G) * np.maximum(np.abs(a), np.abs(b))).max(1), "add up"),
    (dataset.control_bounds, lambda G, a, b: np.full(len(G), control_bounds(G, a, b).max()), "Each control"),
    (dataset.control_bounds, sampled_bounds, "not a bound"),
    (dataset.control_bounds, lambda G, a, b: np.linalg.norm(G, axis=1) * np.hypot(np.abs(a), np.abs(b)).max() * 4, "not exact"),
    (dataset.control_bounds, lambda G, a, b: control_bounds(G, a, b)[:, None], "shape"),
    (dataset.leaked, lambda train, test: np.flatnonzero((test[:, None] == train).all(2).any(1)), "exact copies"),
    (dataset.leaked, lambda train, test: leaked(test, train), "training set"),
    (dataset.leaked, lambda train, test: leaked(train, test, tolerance=0.01), "too wide"),
    (dataset.leaked, lambda train, test: np.flatnonzero(same(train, test)[:, :, :2].all(2).any(1)), "another target"),
    (dataset.leaked, lambda train, test: np.flatnonzero(np.isin(test, train).all(1)), "another target"),
    (dataset.leaked, lambda train, test: same(train, test).all(2).any(1), "mask"),
    (dataset.leaked, lambda train, test: np.where(same(train, test).all(2).any(1)), "tuple"),
    (dataset.leaked, lambda train, test: np.nonzero(same(train, test).all(2))[0], "more than once"),
    (dataset.leaked, lambda train, test: np.setdiff1d(np.arange(len(test)), leaked(train, test)), "other way round"),
    (dataset.leaked, same_row, "none"),
    (dataset.leaked, lambda train, test: leaked(train, test)[1:], "missed"),
    (dataset.leaked, lambda train, test: test[leaked(train, test)], "one-dimensional"),
    (dataset.leaked, lambda train, test: leaked(train, test) / 1, "whole numbers"),
    *[(dataset.leaked, lambda train, test, d=d: rounded(train, test, d), "cuts neighbours") for d in (4, 5, 6)],
    (dataset.physical_loss, lambda s, t, sigma: ((s - t) ** 2).mean(), "forgotten"),
    (dataset.physical_loss, scaled_loss, "in units of sigma²"),
    (dataset.physical_loss, lambda *a: physical_loss(*a, power=-1), "multiply"),
    (dataset.physical_loss, lambda *a: physical_loss(*a, power=2), "sigma twice"),
    (dataset.physical_loss, lambda s, t, sigma: (sigma * (s - t / sigma) ** 2).mean(), "must be squared"),
    (dataset.physical_loss, lambda s, t, sigma: scaled_loss(s, t, sigma) * (sigma**2).mean(), "no one factor"),
    (dataset.physical_loss, lambda *a: np.sqrt(physical_loss(*a)), "root"),
    (dataset.physical_loss, lambda s, t, sigma: np.abs(s * sigma - t).mean(), "|error|"),
    (dataset.physical_loss, lambda s, t, sigma: (s * sigma - t).mean() ** 2, "cancel"),
    (dataset.physical_loss, lambda s, t, sigma: ((s * sigma - t) ** 2).sum(), "sum"),
    (dataset.physical_loss, lambda s, t, sigma: ((s * sigma - t) ** 2).sum(axis=(1, 2)).mean(), "steps and controls"),
    (dataset.physical_loss, lambda s, t, sigma: ((s * sigma - t) ** 2).mean(axis=0), "shape"),
    (dataset.physical_loss, lambda *a: 7 * physical_loss(*a), "7 times"),
]
