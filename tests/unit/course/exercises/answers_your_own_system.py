"""Answers to chapter 10's exercises: right ones, and wrong ones with a part of the message."""

import numpy as np
import torch

from trc_lib.costs import QuadraticCost
from trc_lib.course.exercises import your_own_system as checks
from trc_lib.problems import Problem
from trc_lib.systems import System
from trc_lib.teachers import IterativeLQR


def thrusts(expression):
    def answer(mass, parcel, gravity):
        return eval(expression, {"m": mass, "p": parcel, "g": gravity, "np": np})
    return answer


def by_balance(mass, parcel, gravity):
    """Forces and torques about the middle, as a linear system."""
    return np.linalg.solve([[1.0, 1.0], [-1.0, 1.0]],
                           [(mass + parcel) * gravity, parcel * gravity])


def rows_alone(f, x, u):
    alone = np.stack([f(x[i], u[i]) for i in range(len(x))])
    return not np.allclose(f(x, u), alone)


def rows_of_one(f, x, u):
    together = f(x, u)
    return bool(max(np.abs(together[i] - f(x[i:i + 1], u[i:i + 1])[0]).max()
                    for i in range(len(x))) > 1e-9)


class Crane(System):
    """A cart whose acceleration is the control, and a load on a rope; also in wrong versions."""

    def __init__(self, length=1.0, dt=0.1, control_limit=2.0, version="right"):
        self.length, self.version = length, version
        super().__init__(4, 1, dt, control_limit)

    def dynamics(self, state, control):
        x, angle, v, w = state.unbind(-1)
        push = control[..., 0] if self.version != "mixes" else control.flatten()[0]
        turn = -(9.81 * torch.sin(angle) + push * torch.cos(angle)) / self.length
        if self.version == "float32":
            turn, push, v, w, x, angle = (each.float() for each in (turn, push, v, w, x, angle))
        if self.version == "detached":
            turn = turn.detach()
        v, w = v + self.dt * push, w + self.dt * turn
        after = [x + self.dt * v, angle + self.dt * w, v, w]
        if self.version == "tuple":
            return tuple(after)
        if self.version == "numpy":
            return torch.stack(after, dim=-1).numpy()
        return torch.stack(after, dim=-1 if self.version != "rows" else 0)


class PushedPendulum(System):
    """That of the chapter, with friction."""

    def __init__(self, friction=0.1, gravity=5.0, control_limit=4.0):
        self.friction, self.gravity = friction, gravity
        super().__init__(2, 1, 0.1, control_limit)

    def dynamics(self, state, control):
        angle, speed = state.unbind(-1)
        torque = self.gravity * torch.sin(angle) + control[..., 0] - self.friction * speed
        speed = speed + self.dt * torque
        return torch.stack([angle + self.dt * speed, speed], dim=-1)


class OtherPendulum(PushedPendulum):
    """One without friction, with a stop, and ones with a fault."""

    def __init__(self, version="stop"):
        self.version = version
        super().__init__(friction=0.0)

    def dynamics(self, state, control):
        if self.version in ("adds", "in place"):
            angle, speed = (state if self.version == "adds" else state.clone()).unbind(-1)
            speed += self.dt * (5 * torch.sin(angle) + control[..., 0])
            return torch.stack([angle + self.dt * speed, speed], dim=-1)
        after = super().dynamics(state, control)
        if self.version == "cubic":
            return after + state**3
        root = torch.sqrt(state[..., 1]) if self.version == "root" else 0.0
        stop = 20 * (state[..., 0] - 3.3).clamp(min=0)
        push = torch.stack([torch.zeros_like(stop), -stop - 0.5 * root], dim=-1)
        return after + self.dt * push


class Draggy(PushedPendulum):
    """With drag in the air, which has no slope at rest; also with rows that mix, or a gust."""

    def __init__(self, version="right"):
        self.version = version
        super().__init__(friction=0.0, control_limit=5.0)

    def dynamics(self, state, control):
        speed = state[..., 1]
        drag = 0.3 * speed * speed.abs()
        if self.version == "mixes":  # where the fastest row is faster than 2 rad/s
            drag = drag * max(1.0, float(speed.detach().abs().max()) / 2)
        if self.version == "gust":
            drag = drag + 0.01 * torch.randn_like(speed)
        push = torch.stack([torch.zeros_like(drag), -self.dt * drag], dim=-1)
        return super().dynamics(state, control) + push

    def jacobians(self, state, control):
        if self.version == "forgets":
            return PushedPendulum(0.0).jacobians(state, control)
        return super().jacobians(state, control)


class OwnSlopes(PushedPendulum):
    """With exact derivatives, in a form that is accepted or not."""

    def __init__(self, form="batch"):
        self.form = form
        super().__init__(control_limit=4.5)

    def jacobians(self, state, control):
        A, B = super().jacobians(state, control)
        return {"batch": (A, B), "A alone": A, "numpy": (A.numpy(), B.numpy()),
                "float32": (A.float(), B.float()), "one B": (A, B[0]),
                "flat": (A, B[..., 0])}[self.form]


class Nameless(System):
    """Keeps its argument under another name."""

    def __init__(self, friction=0.1):
        self.brake = friction
        super().__init__(2, 1, 0.1, 4.0)

    def dynamics(self, state, control):
        return state + self.dt * (control - self.brake * state)


def crane(horizon=40, end=50.0, fixed=None, **system):
    """A problem of the crane, as a function of the guesses."""
    def answer(guesses):
        cost = QuadraticCost(np.diag([0.1, 0.1, 0.01, 0.01]), [[0.1]],
                             end * np.diag([1.0, 1.0, 1.0, 1.0]))
        teacher = IterativeLQR(Crane(**system), horizon, cost, [0.1, 0.1, 0.1, 0.2],
                               guesses=fixed or guesses)
        return Problem(teacher, [1.0, 0.2, 0.3, 0.3], 0.0)
    return answer


def pendulum(system, speed=0.3):
    def answer(guesses):
        cost = QuadraticCost(np.diag([0.1, 0.01]), [[0.02]], np.diag([50.0, 10.0]))
        teacher = IterativeLQR(system, 25, cost, [0.2, 0.5], guesses=guesses)
        return Problem(teacher, [[2.8, 3.4], [-speed, speed]], 0.0)
    return answer


RIGHT = {
    checks.hover: [by_balance, thrusts("[m * g / 2, m * g / 2 + p * g]"),
                   thrusts("np.array([0.5 * m, 0.5 * m + p]) * g"),
                   thrusts("np.array([[0.5 * m], [0.5 * m + p]], dtype=np.float32) * g"),
                   lambda m, p, g: torch.tensor([m / 2 * g, (m / 2 + p) * g]),
                   lambda m, p, g: torch.tensor([[m / 2 * g], [(m / 2 + p) * g]])],
    checks.mixes_the_batch: [
        rows_alone, rows_of_one, lambda *each: int(rows_alone(*each)),
        lambda *each: np.array([rows_alone(*each)]), lambda *each: torch.tensor(rows_alone(*each))],
    checks.journey: [crane(), pendulum(PushedPendulum(control_limit=4.5)),
                     pendulum(PushedPendulum(friction=0.0, control_limit=4.5)),
                     pendulum(OtherPendulum()), pendulum(OwnSlopes()),
                     pendulum(Draggy(), 0.0)],
}

WRONG = {
    checks.hover: [
        (thrusts("[m * g / 2 + p * g, m * g / 2]"), "swapped"),
        (thrusts("[(m + p) * g / 2] * 2"), "it turns"), (thrusts("[m * g / 2] * 2"), "without"),
        (thrusts("[m * g, (m + 2 * p) * g]"), "Twice"),
        (thrusts("[m / 2, m / 2 + p]"), "masses"),
        (thrusts("[(m - p) * g / 2, (m + p) * g / 2]"), "sinks"),
        (thrusts("[m / 2 * g, (m + p) / 2 * g]"), "all of it"),
        (thrusts("[m / 2 * g - p * g, m / 2 * g + p * g]"), "sinks, and turns"),
        (thrusts("m * g"), "shape []"), (thrusts("[0, 0]"), "it should be"),
        (thrusts("[m / 2 * 9.81, (m / 2 + p) * 9.81]"), "an argument"),
    ],
    checks.mixes_the_batch: [
        (lambda f, x, u: False, "nothing wrong"), (lambda f, x, u: True, "You blame"),
        (lambda f, x, u: f(x, u).shape, "True or False"), (lambda f, x, u: "yes", "True or False"),
        (lambda f, x, u: 2, "True or False"),
        (lambda f, x, u: not np.allclose(f(x, u)[0], f(x[0], u[0])), "all rows"),
        (lambda f, x, u: any(abs(f(x, u)[i, 1] - f(x[i], u[i])[1]) > 1e-9 for i in range(6)),
         "moves the"),
        (lambda f, x, u: any(np.abs(f(x, u)[i] - f(x[i], u[i])).max() > 1e-9 for i in (0, 1, -1)),
         "moves the"),
        (lambda f, x, u: any(np.abs(f(x[:2], u[:2])[i] - f(x[i], u[i])).max() > 1e-9
                             for i in (0, 1)), "third row"),
        (lambda f, x, u: any((f(x, u)[i] != f(x[i], u[i])).any() for i in range(6)), "tolerance"),
        (lambda f, x, u: any(not np.allclose(f(x, u)[i], f(x[i], u[i]))
                             for i in range(1, len(x))), "first row by the speed"),
        (lambda f, x, u: any(not np.allclose(f(x, u)[i], f(x[i], u[i]), atol=1e-3)
                             for i in range(len(x))), "for rounding alone"),
        (lambda f, x, u: not np.allclose(np.concatenate([f(x[:3], u[:3]), f(x[3:], u[3:])]),
                                         f(x, u)), "second of three rows"),
        (lambda f, x, u: not np.allclose(f(x[::-1], u[::-1])[::-1], f(x, u)), "Shuffling"),
        (lambda f, x, u: any(not np.allclose(f(x[:3], u[:3])[i], f(x[i], u[i]))
                             for i in range(3)), "fifth row"),
        (lambda f, x, u: any(abs((f(x, u)[i] - f(x[i], u[i])).sum()) > 1e-9 for i in range(6)),
         "one state up"),
    ],
    checks.journey: [
        (lambda guesses: 3, "Return a Problem"), (crane(fixed=2), "`guesses`"),
        (crane(version="mixes"), "mix the rows"), (crane(version="detached"), "derivatives A"),
        (crane(version="rows"), "returns torch.float64 [4, 5]"),
        (crane(version="tuple"), "returns a tuple"),
        (crane(version="numpy"), "returns a ndarray"),
        (crane(version="float32"), "returns torch.float32 [5, 4]"),
        (pendulum(PushedPendulum(friction=0)), "Change its"),
        (pendulum(OwnSlopes("A alone")), "needs [3, 2, 2] and [3, 2, 1]"),
        (pendulum(OwnSlopes("numpy")), "returns a ndarray and a ndarray"),
        (pendulum(OwnSlopes("float32")), "returns torch.float32 [3, 2, 2]"),
        (pendulum(OwnSlopes("one B")), "and torch.float64 [2, 1] for"),
        (pendulum(OwnSlopes("flat")), "and torch.float64 [3, 2] for"),
        (pendulum(OtherPendulum("adds")), "changes its arguments in place"),
        (pendulum(OtherPendulum("in place")), "in place, as by state"),
        (pendulum(OtherPendulum("root")), "NaN or infinity"),
        (pendulum(OtherPendulum("cubic")), "too few answers"),
        (pendulum(Draggy("forgets"), 0.0), "derivatives A"),
        (pendulum(Draggy("mixes"), 0.0), "mix the rows"),
        (pendulum(Draggy("gust"), 0.0), "Leave random numbers out"),
        (pendulum(Nameless()), "could not hold"), (crane(horizon=8), "arrive"),
    ],
}
