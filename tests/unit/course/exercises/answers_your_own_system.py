"""Answers to chapter 10's exercises: right ones, and wrong ones with a part of the message."""

import numpy as np
import torch

from trc_lib.course.exercises import your_own_system as checks


def thrusts(expression):
    def answer(mass, parcel, gravity):
        return eval(expression, {"m": mass, "p": parcel, "g": gravity, "np": np})
    return answer


def by_balance(mass, parcel, gravity):
    """Forces and torques about the middle, as a linear system."""
    return np.linalg.solve([[1.0, 1.0], [-1.0, 1.0]],
                           [(mass + parcel) * gravity, parcel * gravity])


def differences(h=1e-6, both=True, over=None, transpose=False, swap=False):
    def answer(f, x, u):
        def columns(call, at):
            back = h if both else 0.0
            width = over or (h + back)
            return np.stack([(call(at + h * e) - call(at - back * e)) / width
                             for e in np.eye(len(at))], axis=0 if transpose else 1)
        A, B = columns(lambda z: f(z, u), x), columns(lambda z: f(x, z), u)
        return (B, A) if swap else (A, B)
    return answer


def complex_step(f, x, u):
    A = np.stack([f(x + 1e-20j * e, u).imag / 1e-20 for e in np.eye(len(x))], axis=1)
    B = np.stack([f(x, u + 1e-20j * e).imag / 1e-20 for e in np.eye(len(u))], axis=1)
    return torch.tensor(A), torch.tensor(B)


def moves_x(f, x, u):
    x[0] += 1e-6
    return np.eye(len(x)), np.zeros((len(x), len(u)))


def rows_alone(f, x, u):
    alone = np.stack([f(x[i], u[i]) for i in range(len(x))])
    return not np.allclose(f(x, u), alone)


def rows_of_one(f, x, u):
    together = f(x, u)
    return bool(max(np.abs(together[i] - f(x[i:i + 1], u[i:i + 1])[0]).max()
                    for i in range(len(x))) > 1e-9)


RIGHT = {
    checks.hover: [by_balance, thrusts("[m * g / 2, m * g / 2 + p * g]"),
                   thrusts("np.array([0.5 * m, 0.5 * m + p]) * g")],
    checks.jacobians_by_differences: [differences(), differences(1e-5), complex_step],
    checks.mixes_the_batch: [rows_alone, rows_of_one],
}

WRONG = {
    checks.hover: [
        (thrusts("[m * g / 2 + p * g, m * g / 2]"), "swapped"),
        (thrusts("[(m + p) * g / 2] * 2"), "it turns"), (thrusts("[m * g / 2] * 2"), "without"),
        (thrusts("[m * g, (m + 2 * p) * g]"), "Twice"),
        (thrusts("[m / 2, m / 2 + p]"), "masses"),
        (thrusts("[(m - p) * g / 2, (m + p) * g / 2]"), "sinks"),
        (thrusts("m * g"), "shape []"), (thrusts("[0, 0]"), "it should be"),
    ],
    checks.jacobians_by_differences: [
        (differences(1e-4, both=False), "both sides"), (differences(1e-12), "rounding"),
        (differences(over=1e-6), "factor of two"), (differences(transpose=True), "transposed"),
        (differences(swap=True), "A has shape"), (lambda f, x, u: np.eye(len(x)), "two matrices"),
        (moves_x, "in place"),
        (lambda f, x, u: (np.eye(len(x)), np.zeros((len(x), len(u)))), "it should be"),
    ],
    checks.mixes_the_batch: [
        (lambda f, x, u: False, "let one pass"), (lambda f, x, u: True, "You blame"),
        (lambda f, x, u: f(x, u).shape, "True or False"),
        (lambda f, x, u: not np.allclose(f(x, u)[0], f(x[0], u[0])), "every"),
    ],
}
