"""Answers to chapter 1's exercises: right ones, and wrong ones with a part of the message."""

import math

import numpy as np
import scipy.linalg
import torch

from trc_lib.course.exercises import teacher


def null_projector(C):
    return np.eye(C.shape[1]) - C.T @ np.linalg.solve(C @ C.T, C)


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
    teacher.enough_steps: [enough_steps, lambda *p: [enough_steps(*p)]],
    teacher.least_energy: [least_energy, lambda *p: least_energy(*p).astype(np.float32)],
    teacher.least_cost: [
        least_cost,
        lambda C, d, r: np.linalg.pinv(C / np.sqrt(r)) @ d / np.sqrt(r),
    ],
}

WRONG = {
    teacher.null_projector: [
        (lambda C: np.linalg.pinv(C) @ C, "row space"),
        (lambda C: scipy.linalg.null_space(C), "basis"),
        (lambda C: np.eye(C.shape[1]) - C.T @ C, "orthonormal"),
        (lambda C: np.eye(len(C)) - C @ np.linalg.pinv(C), "states"),
        (lambda C: -null_projector(C), "sign"),
        (lambda C: 2 * null_projector(C), "twice"),
        (lambda C: np.eye(C.shape[1]), "moves the end"),
        (slanted_projector, "oblique"),
        (one_direction, "too much"),
        (lambda C: "P", "array of numbers"),
    ],
    teacher.enough_steps: [
        (lambda *p: enough_steps(*p, rounded=math.floor), "Round up"),
        (lambda *p: enough_steps(*p, rounded=round), "nearest"),
        (lambda *p: enough_steps(*p, rounded=float), "whole"),
        (lambda *p: enough_steps(*p, power=1), "root"),
        (lambda *p: enough_steps(*p, coast=0), "forget v_0 T"),
        (lambda *p: enough_steps(*p, turn=0), "½ Δv T is missing"),
        (lambda *p: enough_steps(*p, turn=0.5), "sign"),
        (lambda *p: enough_steps(*p, coast=0, turn=0), "velocities"),
        (lambda *p: enough_steps(*p) + 1, "One step too many"),
        (lambda *p: p[2] / enough_steps(*p), "dt in seconds"),
        (lambda *p: enough_steps(*p, least=0), "at least 1"),
        (lambda *p: 15, "is enough, but so is"),
        (lambda *p: 1, "has a final error"),
        (lambda *p: -1, "no number of steps"),
    ],
    teacher.least_energy: [
        (lambda *p: least_energy(*p, order=-1), "order"),
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
        (lambda *p: 0.9 * least_energy(*p), "have a final error"),
    ],
    teacher.least_cost: [
        (lambda C, d, r: least_cost(C, d, r, power=0), "no effect"),
        (lambda C, d, r: least_cost(C, d, r, power=-1), "wrong way round"),
        (lambda C, d, r: least_cost(C, d, r, power=2), "root is missing"),
        (lambda C, d, r: least_cost(C, d, r, power=0.5), "root too many"),
        (lambda C, d, r: np.sqrt(r) * least_cost(C, d, r), "Undo"),
        (lambda C, d, r: np.linalg.pinv(C) @ d / r, "inside the inverse"),
        (lambda C, d, r: np.linalg.pinv(C) @ d / np.sqrt(r), "columns of C"),
        (lambda C, d, r: -least_cost(C, d, r), "sign"),
        (lambda C, d, r: 2 * least_cost(C, d, r), "should be d"),
        (lambda C, d, r: least_cost(C, d, r + 1), "costs"),
        (lambda C, d, r: least_cost(C, d, r)[:, None], "shape"),
    ],
}
