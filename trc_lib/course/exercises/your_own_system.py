"""Checks of chapter 10: thrusts that hover, a step that mixes a batch, a system of one's own."""

import tempfile

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
from trc_lib.evaluation import measure
from trc_lib.model.baselines import MLP
from trc_lib.problems import Problem
from trc_lib.systems.steps import check_methods
from trc_lib.teachers import IterativeLQR
from trc_lib.training import TrainConfig, train
from trc_lib.training.compute import one_thread

EARTH = 9.81


@exercise
def hover(answer):
    """Check ``answer(mass, parcel, gravity)``: the left and the right thrust (N), ``[2]``.

    The parcel hangs right under the right rotor.
    """
    r = np.random.default_rng(90)
    for _ in range(3):
        mass, parcel, gravity = r.uniform(0.3, 2), r.uniform(0.05, 0.4), r.uniform(3, 12)
        given = on_copies(answer, mass=mass, parcel=parcel, gravity=gravity)
        if torch.is_tensor(given):
            given = given.detach().numpy()
        if np.size(given) == 2:
            given = np.reshape(given, 2)  # a row or a column will do
        given = as_array(given, (2,), "The answer")
        half, extra = mass * gravity / 2, parcel * gravity
        right = np.array([half, half + extra])
        judge(given, right, [
            (right[::-1], "Left and right are swapped: the parcel hangs under the *right* rotor."),
            ([half + extra / 2, half + extra / 2],
             "It does not fall, but it turns: the parcel pulls on the right arm alone."),
            ([half, half + extra / 2], "The right rotor carries the parcel alone: all of it."),
            ([half - extra, half + extra],
             "It sinks, and turns: the sum of the thrusts must carry the parcel, too."),
            ([half, half], "That is without the parcel: it sinks, and turns."),
            (2 * right, "Twice as much: the two rotors share the weight."),
            (right / gravity, "Those are masses (kg); a thrust is a force: times gravity."),
            (right / gravity * EARTH, "Gravity is an argument; you use 9.81."),
            ([half - extra / 2, half + extra / 2],
             "It does not turn, but it sinks: the parcel's weight must be carried, too."),
        ], f"For {mass:.2f} kg, a parcel of {parcel:.2f} kg and a gravity of {gravity:.2f} m/s² "
           f"you give {given.round(3)} N; it should be {right.round(3)} N.")
    return ("it neither sinks nor turns. A teacher that begins from these thrusts begins with a "
            "craft in the air.")


def _steps(r):
    """Dynamics, and in words how they mix the rows of a batch; None where they do not."""
    w, dt = r.uniform(1, 3), r.uniform(0.05, 0.2)

    def good(x, u):
        return np.stack([x[..., 0] + dt * x[..., 1],
                         x[..., 1] + dt * (u[..., 0] - w * np.sin(x[..., 0]))], axis=-1)

    def mean(x, u):
        return good(x - 0.1 * x.mean(axis=0, keepdims=x.ndim > 1) * (x.ndim > 1), u)

    def first_control(x, u):
        return good(x, u.reshape(-1, u.shape[-1])[0])

    def norm(x, u):
        return good(x, u) / max(1.0, np.abs(x).max() / 1.5)

    def other(x, u):
        return x + dt * np.concatenate([x[..., 1:], u - w * x[..., :1] ** 3], axis=-1)

    def reverse(x, u):
        return good(x, u[::-1] if u.ndim > 1 else u)

    def in_threes(x, u):
        after = good(x, u)
        if x.ndim > 1:
            after[1::3, 0] += dt * (x[::3, 1][:len(after[1::3])] - x[1::3, 1])
        return after

    def faint(x, u):
        return good(x, u) + 1e-4 * x.mean(axis=0) * (x.ndim > 1)

    def rounded(x, u):
        return good(x, u) * (1 + 1e-15 * (x.ndim > 1))

    def moves(row, by, how=(1, 0)):
        """One ``row(n)`` of n is moved ``how`` by the speed of the row ``by(n)``."""
        def step(x, u):
            after = good(x, u)
            if x.ndim > 1 and len(x) > max(row(len(x)), by(len(x))):
                k = row(len(x))
                after[k] += dt * (x[by(len(x)), 1] - x[k, 1]) * np.array(how)
            return after
        return step

    return [
        (good, None), (rounded, None), (other, None),
        (mean, "it subtracts a mean over the batch"),
        (first_control, "it gives each row the control of the first"),
        (norm, "it divides by the largest state of the batch, if that is large"),
        (reverse, "it gives the rows each other's controls"),
        (moves(lambda n: n // 2, lambda n: 0),
         "it moves the row in the middle by the speed of the first"),
        (moves(lambda n: n - 1, lambda n: max(n - 2, 0), (0, 1)),
         "it pushes the last row by the speed of the row before it"),
        (moves(lambda n: 2, lambda n: 0), "it moves the third row by the speed of the first"),
        (moves(lambda n: 0, lambda n: 1), "it moves the first row by the speed of the second"),
        (moves(lambda n: 1, lambda n: 0, (1, -1)),
         "it moves the second row by the speed of the first, one state up and the other down"),
        (moves(lambda n: 4, lambda n: 3), "it moves the fifth row by the speed of the fourth"),
        (in_threes, "it moves the second of three rows by the speed of the first of them"),
        (faint, "it adds a ten-thousandth of the mean of the batch")]


@exercise
def mixes_the_batch(answer):
    """Check ``answer(f, x, u)``: whether f gives rows of a batch other results than each alone."""
    for seed in range(3):
        r = np.random.default_rng(92 + seed)
        x, u = r.normal(size=(6, 2)) * 2, r.normal(size=(6, 1))
        steps = _steps(r)
        for i in r.permutation(len(steps)):
            f, how = steps[i]
            given = on_copies(lambda x, u, f=f: answer(f, x, u), x=x, u=u)
            verdict = _yes_or_no(given)
            if how is None and verdict:
                raise Wrong("You blame dynamics that keep the rows apart. Compare with a tolerance "
                            "for rounding, and give f one row at a time: x[i], u[i].")
            if how is not None and not verdict:
                raise Wrong(f"You find nothing wrong with dynamics that mix the rows: {how}. Give "
                            "f each row by itself, and compare all rows and all of their states; "
                            "a tolerance is for rounding alone. (Shuffling the rows does not show "
                            "a mean over all of them.)")
    return ("a common fault of a system of one's own. A teacher, a network and an evaluation that "
            "all share it agree with each other, and none is right.")


def _yes_or_no(given):
    """True or False, also as a number 0 or 1, or as an array or tensor that holds one of these."""
    if torch.is_tensor(given):
        given = given.detach().numpy()
    if not isinstance(given, str) and np.size(given) == 1:
        value = np.asarray(given).reshape(()).item()
        if value in (0, 1):
            return bool(value)
    raise Wrong(f"Return True or False, not {type(given).__name__}.")


PROBLEMS, UNSEEN, EPOCHS = 300, 100, 40


@exercise
def journey(answer):
    """Check ``answer(guesses)``: a `Problem` of one's own; test it, solve it, train on it.

    The message has what was measured: how often three guesses beat one, how many plans of the
    teacher arrive, and how many of a plain network that was trained for seconds.
    """
    one, three = answer(1), answer(3)
    for problem, guesses in ((one, 1), (three, 3)):
        if not isinstance(problem, Problem):
            raise Wrong(f"Return a Problem(teacher, starts, targets), not "
                        f"{type(problem).__name__}.")
        if not isinstance(problem.teacher, IterativeLQR) or problem.teacher.guesses != guesses:
            raise Wrong("The teacher should be an IterativeLQR, with `guesses` as your function "
                        "is given it.")
    with one_thread():
        _test_the_system(three)
        return _measured(one, three)


def _test_the_system(problem):
    """Refuse a system that mixes rows, has wrong derivatives, or is the chapter's pendulum."""
    system, r = problem.teacher.system, np.random.default_rng(91)
    drawn = problem.sampler(0, system.state_dim, problem.state_range, problem.target_range)
    starts, targets = drawn.draw(6)
    try:
        check_methods(system)
    except ValueError as error:
        raise Wrong(str(error)) from None
    _test_at(system, starts, r)
    found = problem.teacher.iterate(starts, targets)
    on_the_way = system.rollout_unchecked(starts, found.controls)[found.solved].flatten(0, 1)
    if len(on_the_way):  # and not where a kink is, such as a limit of speed
        aside = torch.from_numpy(r.normal(size=on_the_way.shape))
        _test_at(system, on_the_way + 0.01 * on_the_way.std(dim=0) * aside, r)
    try:
        system.contents()
    except Exception as error:
        raise Wrong(f"A file could not hold your system: {error}") from None
    if (system.state_dim, system.control_dim) == (2, 1):
        x = torch.from_numpy(r.uniform([-4, -8], [4, 8], size=(200, 2)))
        u = torch.from_numpy(r.uniform(-4, 4, size=(200, 1)))
        speed = x[:, 1] + 0.1 * (5 * x[:, 0].sin() + u[:, 0])
        same = torch.stack([x[:, 0] + 0.1 * speed, speed], dim=1)
        refuse((torch.allclose(system.dynamics(x, u), same)
                and np.allclose(torch.cat(system.bounds), [-4, 4]),
                "That is the chapter's pendulum. Change its physics, or write another system."))


def _test_at(system, x, r):
    """Refuse dynamics whose rows or derivatives are wrong at states ``x``, ``[n, state_dim]``."""
    u = torch.from_numpy(r.normal(size=(len(x), system.control_dim))).clamp(*system.bounds)
    together = system.dynamics(x, u)
    refuse((not together.isfinite().all(), "The dynamics return NaN or infinity for some of "
            "your starts, or on the way from there. Is there a root or a logarithm of a negative "
            "number, or a division by 0?"),
           (not torch.equal(together, system.dynamics(x, u)), "Asked again, the dynamics give "
            "another result. Leave random numbers out of them: noise belongs into `closed_loop`."))
    alone = torch.stack([system.dynamics(*pair) for pair in zip(x, u)])
    refuse((not torch.allclose(together, alone), "The dynamics mix the rows of a batch: a row gets "
                                                 "another result alone."))
    try:
        own = system.jacobians(x, u)
    except RuntimeError as error:
        raise Wrong("PyTorch cannot differentiate the dynamics. Use its functions alone, and "
                    f"change no tensor in place, as by state[..., 1] += ... ({error})") from None
    for name, mine, right in zip("AB", own, _by_differences(system.dynamics, x, u)):
        refuse((not torch.allclose(mine, right, rtol=1e-4, atol=1e-5),
                f"The derivatives {name} are not those of the dynamics: differences say "
                f"otherwise, by {float((mine - right).abs().max()):.1g}."))


def _by_differences(f, x, u, h=1e-5):
    """The derivatives of ``f(x, u)`` in both, for rows of a batch."""
    for i, size in enumerate((x.shape[-1], u.shape[-1])):
        columns = []
        for e in h * torch.eye(size, dtype=torch.float64):
            ends = [f(x + s * e, u) if i == 0 else f(x, u + s * e) for s in (1, -1)]
            columns.append((ends[0] - ends[1]) / (2 * h))
        yield torch.stack(columns, dim=-1)


def _measured(one, three):
    """What the solver and a plain network make of it, in words."""
    teacher, system = three.teacher, three.teacher.system
    try:
        sets = {name: three.dataset(count, seed) for name, count, seed in
                (("train", PROBLEMS, 0), ("choice", UNSEEN, 1), ("unseen", UNSEEN, 2))}
    except ValueError as error:
        raise Wrong(f"The teacher finds too few answers: {error}.") from None
    x0, xT = sets["unseen"].initial_states, sets["unseen"].target_states
    first, solved = one.teacher.try_solve(x0, xT)
    costs = [teacher.cost(x0, xT, u) for u in (first.nan_to_num(), sets["unseen"].controls)]
    costs[0] = costs[0].where(solved, torch.inf)  # one guess found no answer, and three did
    cheaper = (costs[1] < 0.999 * costs[0]).double().mean().item()
    arrive = measure(sets["unseen"], sets["unseen"].controls).success_rate
    refuse((sets["train"].share_dropped > 0.5, "The teacher finds no answer to more than half of "
            "the problems. Give it more time, stronger controls, or nearer starts."),
           (arrive < 0.5, f"Of the teacher's own plans {arrive:.0%} arrive. Give it more time (a "
                          "longer horizon) or stronger controls, or weigh the end more in the "
                          "cost, before a network learns from it."))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP.within(100_000, system, horizon=teacher.horizon)
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(epochs=EPOCHS, batch_size=64, patience=1000)
        train(network, sets["train"], sets["choice"], config, folder, device="cpu", progress=False)
    share = measure(sets["unseen"], network.solve(x0, xT)).success_rate
    return (f"rows, derivatives and file are as they should be. Measured on {UNSEEN} problems: two "
            f"more guesses are cheaper for {cheaper:.0%}; {arrive:.0%} of the teacher's plans "
            f"arrive, and {share:.0%} of a plain network's, trained on {PROBLEMS} others.")
