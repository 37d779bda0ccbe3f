"""Answers to chapter 1's exercises: right ones, and wrong ones with a part of the message."""

import math

import numpy as np
import scipy.linalg
import torch

from trc_lib.course.exercises import teacher


def null_projector(C):
    return np.eye(C.shape[1]) - C.T @ np.linalg.solve(C @ C.T, C)


def end_moving_shares(C, optimum, noise, guesses=(0.5, 0.5, 0.5), late=None, of=np.square):
    P = null_projector(C)
    late = np.append(0, optimum[:-1]) if late is None else late(optimum)
    shares = []
    for w in (-0.1 * optimum, late - optimum, noise):
        shares.append(of(np.linalg.norm(w - w @ P)) / of(np.linalg.norm(w)))
    return guesses, shares


def exactly(x0, xT, T, tolerance):
    """One step more where the formula gives a whole number."""
    way = abs(xT[0] - x0[0] - x0[1] * T - (xT[1] - x0[1]) * T / 2)
    return int((way / tolerance) ** 0.5) + 1


def mean_of_shares(C, optimum, noise):
    off = noise - noise @ null_projector(C)
    guesses, shares = end_moving_shares(C, optimum, noise)
    shares[2] = ((off**2).sum(axis=1) / (noise**2).sum(axis=1)).mean()
    return torch.tensor(guesses), np.float32(shares)


def summed_over_students(C, optimum, noise):
    off = noise - noise @ null_projector(C)
    guesses, shares = mean_of_shares(C, optimum, noise)
    shares[2] = ((off**2).sum(axis=0) / (noise**2).sum(axis=0)).mean()
    return guesses, shares


def other_share(C, optimum, noise):
    guesses, shares = end_moving_shares(C, optimum, noise)
    return guesses, 1 - np.array(shares)


def without_a_mean(C, optimum, noise):
    guesses, shares = end_moving_shares(C, optimum, noise)
    return guesses, [*shares[:2], (noise**2).sum(axis=1)]


def mean_length(C, optimum, noise):
    guesses, shares = mean_of_shares(C, optimum, noise)
    off = noise - noise @ null_projector(C)
    shares[2] = (np.linalg.norm(off, axis=1) / np.linalg.norm(noise, axis=1)).mean()
    return guesses, shares


def signed_distance(x0, xT, T, tolerance):
    way = xT[0] - x0[0] - x0[1] * T - (xT[1] - x0[1]) * T / 2
    return max(1, np.ceil(np.sqrt(way / tolerance))) if way > 0 else 1


def root_of_a_negative_number(x0, xT, T, tolerance):
    with np.errstate(invalid="ignore"):
        way = xT[0] - x0[0] - x0[1] * T - (xT[1] - x0[1]) * T / 2
        return np.ceil(np.sqrt(way / tolerance))


def less_the_optimum(C, optimum, noise):
    guesses, shares = mean_of_shares(C, optimum, noise)
    return guesses, [*shares[:2], mean_of_shares(C, optimum, noise - optimum)[1][2]]


def of_the_pushes(C, optimum, noise):
    guesses, shares = end_moving_shares(C, optimum, noise)
    shares[2] = end_moving_shares(C, optimum, noise + optimum)[1][2]
    return guesses, shares


def in_another_order(C, optimum, noise):
    guesses, shares = mean_of_shares(C, optimum, noise)
    return guesses, shares[::-1]


def enough_steps(x0, xT, T, tolerance, rounded=math.ceil, power=0.5, coast=1, turn=-0.5, least=1):
    way = abs(xT[0] - x0[0] - coast * x0[1] * T + turn * (xT[1] - x0[1]) * T)
    return max(least, rounded((way / tolerance) ** power))


def least_energy(A, B, N, x0, xT, first=0, drift=0, order=1, sign=1):
    C = np.hstack([np.linalg.matrix_power(A, k + first) @ B for k in reversed(range(N))][::order])
    d = sign * (xT - np.linalg.matrix_power(A, N + drift) @ x0)
    return (C.T @ np.linalg.solve(C @ C.T, d)).reshape(N, B.shape[1])


def least_cost(C, d, r, power=1.0):
    W = C / r**power
    return W.T @ np.linalg.solve(C @ W.T, d)


def by_entry(A, B, N, x0, xT):
    """Powers of each entry of A, in place of powers of A."""
    C = np.hstack([A**k @ B for k in reversed(range(N))])
    return (np.linalg.pinv(C) @ (xT - A**N @ x0)).reshape(N, B.shape[1])


def wasteful(A, B, N, x0, xT):
    """Arrives with controls in the last steps only."""
    u = np.zeros((N, B.shape[1]))
    used = len(A) // B.shape[1] + 1
    x = np.linalg.matrix_power(A, N - used) @ x0
    u[-used:] = least_energy(A, B, used, x, xT)
    return u


def lazy(A, B, N, x0, xT):
    """Arrives, but does nothing in the first step."""
    return np.vstack([0 * B[:1], least_energy(A, B, N - 1, A @ x0, xT)])


def slanted_projector(C):
    """Onto the null space, along the first coordinates and not along the row space."""
    onto = np.eye(C.shape[1], len(C))
    return np.eye(C.shape[1]) - onto @ np.linalg.solve(C @ onto, C)


def one_direction(C):
    v = scipy.linalg.null_space(C)[:, :1]
    return v @ v.T


def mixed_up(A, B, N, x0, xT):
    return least_energy(A, B, N, x0, xT).reshape(B.shape[1], N).T


RIGHT = {
    teacher.null_projector: [
        null_projector,
        lambda C: np.eye(C.shape[1]) - np.linalg.pinv(C) @ C,
        lambda C: scipy.linalg.null_space(C) @ scipy.linalg.null_space(C).T,
        lambda C: torch.from_numpy(null_projector(C)).requires_grad_(),
        lambda C: null_projector(C.astype(np.float32)),
    ],
    teacher.end_moving_shares: [
        end_moving_shares,
        mean_of_shares,
        lambda *p: [list(part) for part in end_moving_shares(*p)],
        lambda *p: np.array(end_moving_shares(*p)),
        lambda *p: end_moving_shares(*p, guesses=[1 + 1e-15, 0, -1e-15]),
        lambda *p: [[torch.tensor(each) for each in part] for part in end_moving_shares(*p)],
    ],
    teacher.enough_steps: [
        enough_steps,
        lambda *p: [enough_steps(*p)],
        lambda *p: np.float32(enough_steps(*p)),
        lambda *p: torch.tensor([enough_steps(*p)]),
    ],
    teacher.least_energy: [least_energy, lambda *p: least_energy(*p).astype(np.float32),
                           lambda *p: least_energy(*p).tolist()],
    teacher.least_cost: [
        least_cost,
        lambda C, d, r: np.linalg.pinv(C / np.sqrt(r)) @ d / np.sqrt(r),
        lambda *p: least_cost(*p).tolist(),
        lambda *p: torch.from_numpy(least_cost(*p)),
    ],
}

WRONG = {
    teacher.null_projector: [
        (lambda C: np.linalg.pinv(C) @ C, "row space"),
        (lambda C: scipy.linalg.null_space(C), "basis"),
        (lambda C: np.eye(C.shape[1]) - C.T @ C, "orthonormal"),
        (lambda C: np.eye(len(C)) - C @ np.linalg.pinv(C), "states"),
        (lambda C: -null_projector(C), "sign"),
        (lambda C: 2 * null_projector(C), "Twice"),
        (lambda C: np.eye(C.shape[1]), "moves the end"),
        (slanted_projector, "oblique"),
        (one_direction, "too much"),
        (lambda C: "P", "array of numbers"),
    ],
    teacher.end_moving_shares: [
        (summed_over_students, "axis 0"),
        (without_a_mean, "return the mean"),
        (lambda *p: [without_a_mean(*p)[0], [torch.tensor(each) for each in without_a_mean(*p)[1]]],
         "return the mean"),
        (less_the_optimum, "nothing to subtract"),
        (lambda *p: (mean_of_shares(*p)[0], [*mean_of_shares(*p)[1][:2], 2 / len(p[1])]),
         "the share to expect"),
        (lambda *p: (mean_of_shares(*p)[0], [*mean_of_shares(*p)[1][:2], 2 / 15]),
         "the share to expect"),
        (lambda *p: end_moving_shares(*p)[::-1], "guesses come first"),
        (lambda *p: mean_of_shares(*p)[::-1], "guesses come first"),
        (lambda *p: (end_moving_shares(*p)[0], 100 * np.array(end_moving_shares(*p)[1])),
         "per cent"),
        (other_share, "moves nothing"),
        (lambda *p: end_moving_shares(*p, of=lambda length: length), "square them"),
        (mean_length, "square them"),
        (lambda C, u, noise: mean_of_shares(C, u, noise.mean(axis=0, keepdims=True)), "mean noise"),
        (lambda *p: end_moving_shares(*p, late=lambda u: np.roll(u, 1)), "np.roll"),
        (lambda *p: end_moving_shares(*p, late=lambda u: u + np.append(0, u[:-1])), "share of the"),
        (lambda *p: end_moving_shares(*p, late=lambda u: np.append([0, 0], u[:-2])), "you measure"),
        (lambda *p: end_moving_shares(*p, late=lambda u: np.append(u[1:], 0)), "early"),
        (lambda *p: end_moving_shares(*p, late=lambda u: np.append(u[0], u[:-1])), "there twice"),
        (other_share, "weak: 0.00 is the share"),
        (lambda *p: ([None] * 3, end_moving_shares(*p)[1]), "guesses first"),
        (lambda *p: ([0.5, ..., 0.5], end_moving_shares(*p)[1]), "guesses first"),
        (of_the_pushes, "share of the pushes"),
        (lambda C, u, noise: end_moving_shares(C, u, noise[:1]), "the first student only"),
        (in_another_order, "weak, late, shaky"),
        (lambda *p: end_moving_shares(*p)[1], "Return two things"),
        (lambda *p: (None, end_moving_shares(*p)[1]), "guesses first"),
        (lambda *p: end_moving_shares(*p, guesses=[50, 20, 10]), "between 0 and 1"),
        (lambda *p: ((0.5, 0.5), end_moving_shares(*p)[1]), "guesses has shape"),
    ],
    teacher.enough_steps: [
        (signed_distance, "absolute value"),
        (root_of_a_negative_number, "absolute value"),
        (lambda *p: enough_steps(*p, rounded=math.floor), "Round up"),
        (lambda *p: enough_steps(*p, rounded=round), "nearest"),
        (lambda *p: enough_steps(*p, rounded=float), "whole"),
        (lambda *p: enough_steps(*p, power=1), "root"),
        (lambda *p: enough_steps(*p, coast=0), "forget v_0 T"),
        (lambda *p: enough_steps(*p, turn=0), "½ Δv T is missing"),
        (lambda *p: enough_steps(*p, turn=0.5), "sign"),
        (lambda *p: enough_steps(*p, coast=0, turn=0), "velocities"),
        (lambda *p: enough_steps(*p) + 1, "One step too many"),
        (exactly, "do not add one"),
        (lambda *p: str(enough_steps(*p)), "not text"),
        (lambda *p: p[2] / enough_steps(*p), "dt in seconds"),
        (lambda *p: enough_steps(*p, least=0), "½ Δv T = 4 m, so the final error"),
        (lambda *p: enough_steps(*p, rounded=lambda N: math.ceil(15 * N)), "The 15"),
        (lambda *p: enough_steps(*p, rounded=lambda N: math.ceil(p[2] * N)),
         "One factor T too many"),
        (lambda *p: 15, "is enough, but so is"),
        (lambda *p: 1, "has a final error"),
        (lambda *p: -1, "no number of steps"),
    ],
    teacher.least_energy: [
        (lambda *p: least_energy(*p, order=-1), "order"),
        (lambda A, B, N, x0, xT: least_energy(A, B, N, 0 * x0, xT - A**N @ x0), "each entry"),
        (by_entry, "each entry"),
        (lambda *p: least_energy(*p, sign=-1), "sign"),
        (lambda *p: least_energy(*p, drift=-1), "drifts for N steps, not N − 1"),
        (lambda *p: least_energy(*p, drift=1), "drifts for N steps, not N + 1"),
        (lambda *p: least_energy(*p, first=1), "not multiplied by A"),
        (lambda A, B, N, x0, xT: least_energy(A, B, N, 0 * x0, xT), "forgotten"),
        (lambda A, B, N, x0, xT: least_energy(A, B, N, 0 * x0, xT - x0), "drifts to A^N x0"),
        (lambda A, B, N, x0, xT: least_energy(A, B, N - 1, x0, xT), "One step is missing"),
        (lambda *p: least_energy(*p).ravel(), "reshape"),
        (lambda *p: least_energy(*p).T, "axes are swapped"),
        (mixed_up, "mixed"),
        (wasteful, "times the least energy"),
        (lazy, "more than the least energy"),
        (lambda *p: 2 * least_energy(*p), "Twice"),
        (lambda *p: 0.9 * least_energy(*p), "have a final error"),
    ],
    teacher.least_cost: [
        (lambda C, d, r: least_cost(C, d, r, power=0), "no effect"),
        (lambda C, d, r: least_cost(C, d, r, power=-1), "wrong way round"),
        (lambda C, d, r: least_cost(C, d, r, power=2), "root is missing"),
        (lambda C, d, r: least_cost(C, d, r, power=0.5), "root too many"),
        (lambda C, d, r: np.sqrt(r) * least_cost(C, d, r), "Undo"),
        (lambda C, d, r: r * least_cost(C, d, r), "divide by r"),
        (lambda C, d, r: np.linalg.pinv(C / r) @ d, "forgot the root, and the way back"),
        (lambda C, d, r: np.linalg.pinv(C * np.sqrt(r)) @ d / np.sqrt(r), "multiply the columns"),
        (lambda C, d, r: np.linalg.pinv(C) @ d / r, "inside the inverse"),
        (lambda C, d, r: np.linalg.pinv(C) @ d / np.sqrt(r), "columns of C"),
        (lambda C, d, r: -least_cost(C, d, r), "sign"),
        (lambda C, d, r: 2 * least_cost(C, d, r), "should be d"),
        (lambda C, d, r: least_cost(C, d, r + 1), "costs"),
        (lambda C, d, r: least_cost(C, d, r)[:, None], "drop the last axis"),
    ],
}
