"""Checks of chapter 1: the null-space projector, the shares of three mistakes that move the end,
the number of steps, least energy, least cost.

The references share no code with the law that is taught: the response to unit controls is
simulated, N is found by counting up, and KKT systems are solved.
"""

import math

import numpy as np
import scipy.linalg

from trc_lib.course.exercises.check_result import (
    Wrong,
    apart,
    as_array,
    as_number,
    exercise,
    first,
    judge,
    recognise,
    refuse,
    same,
    several,
)


def _simulate(A, B, x, controls):
    """The last state, [n], after the controls [N, m]."""
    for u in controls:
        x = A @ x + B @ u
    return x


def _responses(A, B, N):
    """C [n, N * m]: its columns are the last states after a unit control, from the origin."""
    n, m = B.shape
    units = np.eye(N * m).reshape(N * m, N, m)
    return np.stack([_simulate(A, B, np.zeros(n), unit) for unit in units], axis=1)


CART = np.array([[1.0, 0.33], [0.0, 1.0]]), np.array([[0.33**2 / 2], [0.33]])  # A, B


@exercise
def null_projector(answer):
    """Check P [N, N] = answer(C [n, N]), the projector onto the null space of C."""
    rng = np.random.default_rng(0)
    for C in (rng.normal(size=(2, 6)), 0.3 * rng.normal(size=(3, 8)), _responses(*CART, 15)):
        n, N = C.shape
        P = as_array(answer(C.copy()), (N, N), "P", {
            (N, N - n): f"That is a basis of the null space, [{N}, {N - n}]. The projector is "
                        f"[{N}, {N}]: the coordinates along the basis, then the vector again.",
            (n, n): f"[{n}, {n}] acts on states. The projector acts on controls, so it is [{N}, "
                    f"{N}]: C⁺ C has that shape, C C⁺ does not.",
        })
        basis = scipy.linalg.null_space(C)
        right, unscaled = basis @ basis.T, np.eye(N) - C.T @ C
        moves, again, oblique = (np.abs(off).max() for off in (C @ P, P @ P - P, P - P.T))
        judge(P, right, [
            (np.eye(N) - right, "That projects onto the row space: it keeps what moves the end and "
                                "removes the excess energy. The null space is the rest."),
            (-right, "The sign is flipped: P w should be w, not −w, for a w that moves nothing."),
            (2 * right, "Twice the projector: P w should be w, not 2 w, for a w that moves "
                        "nothing."),
            (unscaled, "CᵀC would be a projector only if C had orthonormal rows; here P P differs "
                       f"from P by up to {again:.2g}. (C Cᵀ)⁻¹ is missing between the two."),
        ], first(
            (moves > 1e-8,
             f"C P should be 0, not up to {moves:.2g}: part of P w still moves the end point."),
            (again > 1e-8, f"C P = 0, but P P differs from P by {again:.2g}: projecting twice "
                           "should change nothing. Are the columns of your basis perpendicular, "
                           "and of length one?"),
            (oblique > 1e-8, "P is a projector, but an oblique one: P and Pᵀ differ by "
                             f"{oblique:.2g}, so Pythagoras does not hold. Remove the row space."),
            (True, f"P removes too much: its trace is {np.trace(P):.1f}, not {N - n} (of {N}).")))
    return ("P P = P and C P = 0. Its trace is N − n, for the cart 13 of 15: so many directions of "
            "u only cost energy.")


def _moving_share(C, mistakes):
    """The share of the squared mistakes [..., N] in the row space of C: a mean, and of all."""
    mistakes = np.atleast_2d(mistakes)
    coordinates = mistakes @ scipy.linalg.orth(C.T)
    moving, whole = (coordinates**2).sum(axis=1), (mistakes**2).sum(axis=1)
    return (moving / whole).mean(), moving.sum() / whole.sum()


@exercise
def end_moving_shares(answer):
    """Check guesses [3], shares [3] = answer(C [n, N], optimum [N], noise [students, N])."""
    names = ("weak", "late", "shaky")
    # from rest to rest an early student would have the late one's share
    for N, target in ((15, [1.0, 0.0]), (8, [1.0, -0.3])):
        C = _responses(*CART, N)
        optimum = scipy.linalg.lstsq(C, np.array(target))[0]
        noise = 0.02 * np.random.default_rng(4).normal(size=(4000, N))
        late = np.append(0, optimum[:-1])
        given = several(answer(C.copy(), optimum.copy(), noise.copy()),
                        "your guesses", "the measured shares")
        refuse((_no_guess(given[0]), "Write down your three guesses first."))
        for share in given[1] if isinstance(given[1], list | tuple) else ():
            shape = list(np.shape(share))  # np.size does not know tensors
            refuse((math.prod(shape) > 1, f"A share has shape {shape}, and is one number. "
                    "Of the many shaky students return the mean."))
        guesses, shares = (as_array(part, (3,), what) for part, what in zip(
            given, ("The list of guesses", "The list of shares (weak, late, shaky)")))
        right = [_moving_share(C, mistake) for mistake in (-0.1 * optimum, late - optimum, noise)]
        shown = [share for share, _ in right]
        refuse((same(guesses, shown, 1e-3) and not same(shares, shown, 1e-3),
                "Those are the right shares in the place of the guesses: guesses come first."),
               ((np.abs(guesses - 0.5) > 0.5 + 1e-9).any(),  # a copied share may be rounded
                "A share is between 0 and 1. Guess again."),
               (same(shares / 100, shown, 1e-3), "A share is between 0 and 1, not in per cent."))
        shifted = _moving_share(C, np.roll(optimum, 1) - optimum)[0]
        early = _moving_share(C, np.append(optimum[1:], 0) - optimum)[0]
        twice = _moving_share(C, np.append(optimum[0], optimum[:-1]) - optimum)[0]
        as_pushes = (_moving_share(C, late)[0], _moving_share(C, optimum + noise)[0])
        for name, share, accepted in zip(names, shares, right):
            if min(abs(share - each) for each in accepted) < 6e-4:
                continue
            one, other = apart(share, accepted[0])
            alone = _moving_share(C, noise[:1])[0]
            lengths = (np.linalg.norm(noise @ scipy.linalg.orth(C.T), axis=1)
                       / np.linalg.norm(noise, axis=1)).mean()
            refuse(
                (name == "shaky" and same(share, alone, 1e-6), "shaky: that is the first student "
                 "only. noise has a row for each of many: return the mean of their shares."),
                (same(np.sort(shares), np.sort([each for each, _ in right]), 1e-3),
                 "The right shares in another order: weak, late, shaky."),
                (abs(1 - share - accepted[0]) < 2e-3, f"{name}: {max(share, 0):.2f} is the "
                 "share that moves nothing. The part that moves the end is the rest of it."),
                (abs(share - math.sqrt(accepted[0])) < 2e-3
                 or (name == "shaky" and same(share, lengths, 1e-6)), f"{name}: {one} is a ratio "
                 "of lengths. Pythagoras adds squares: the share is of ‖w‖², so square them."),
                (name == "late" and same(share, shifted, 1e-6), "late: np.roll brings the last "
                 "push to the front. This student pushes nothing in the first step."),
                (name == "late" and same(share, early, 1e-6), "late: that student is early. It "
                 "pushes nothing in the last step, not in the first."),
                (name == "late" and same(share, twice, 1e-6), "late: the first push is there "
                 "twice. This student pushes nothing in the first step."),
                (name == "shaky" and same(share, _moving_share(C, noise - optimum)[0], 1e-6),
                 "shaky: noise is the mistake itself, w = u − u*, not u: nothing to subtract."),
                (name == "shaky" and same(share, _moving_share(C, noise.mean(axis=0))[0], 1e-6),
                 "shaky: that is the share of the mean noise. Take the share of each student, "
                 "and then their mean."),
                (name == "shaky" and same(share, _share_by_step(C, noise), 1e-6),
                 "shaky: you sum over the students (axis 0). Sum over the steps of each student "
                 "(axis 1); the mean over the students comes last."),
                (name == "shaky" and any(same(share, 2 / n, 1e-6) for n in (N, 15)),
                 "shaky: 2/N is the share to expect. Measure it, with noise."),
                (min(abs(share - each) for each in as_pushes) < 1e-3, f"{name}: that is the share "
                 "of the pushes. The mistake is w = u − u*: subtract the optimum."),
                (share == round(accepted[0], 2),
                 f"{name}: {one} is rounded; return what you measure, {other}."))
            raise Wrong(f"{name}: with N = {N} you measure {one}; it is {other}. Is w = u − u*, "
                        "and is the part in the row space w − P w?")
        if N == 15:
            first_guesses, measured = guesses, [share for share, _ in right]
    shown = "; ".join(f"{name} {share:.2f}, you guessed {guess:g}"
                      for name, share, guess in zip(names, measured, first_guesses))
    return (f"{shown}. A weak push is wrong along u*, which lies in the row space: all of it moves "
            "the end. Noise has no direction, and C has 2 rows: about 2 of 15 parts, 0.13, move "
            "the end.")


def _share_by_step(C, noise):
    """The mean share of the steps, each summed over the students: a wrong answer."""
    row_space = scipy.linalg.orth(C.T)
    moving = noise @ row_space @ row_space.T
    return ((moving**2).sum(axis=0) / (noise**2).sum(axis=0)).mean()


def _no_guess(guesses):
    """Whether guesses were left open, as None or as an ellipsis."""
    many = guesses if isinstance(guesses, (list, tuple)) else [guesses]
    return any(each is None or each is ... for each in many)


def _sampled_error(x0, xT, T, N):
    """The final error of u = a + b t, held at its mid-step values over N steps; simulated."""
    # conditions on arrival: the integral of u is dv, that of (T - t) u is dp
    conditions = [[T, T**2 / 2], [T**2 / 2, T**3 / 6]]
    a, b = np.linalg.solve(conditions, [xT[1] - x0[1], xT[0] - x0[0] - x0[1] * T])
    (p, v), dt = x0, T / N
    for k in range(N):
        u = a + b * (k + 0.5) * dt
        p, v = p + v * dt + u * dt**2 / 2, v + u * dt
    return math.hypot(p - xT[0], v - xT[1])


@exercise
def enough_steps(answer):
    """Check N = answer(x0 [2], xT [2], T, tolerance): the fewest steps that keep the tolerance."""
    rng = np.random.default_rng(1)
    problems = []
    while len(problems) < 12:
        x0, xT, T = rng.uniform(-2, 2, 2), rng.uniform(-2, 2, 2), rng.uniform(2, 6)
        tolerance = (0.1, 0.01, 0.004)[len(problems) % 3]
        ratio = math.sqrt(_sampled_error(x0, xT, T, 1) / tolerance)
        if ratio > 2 and 0.05 < ratio % 1 < 0.95:  # rounding errors do not decide
            problems.append((x0, xT, T, tolerance))
    right = np.array([next(N for N in range(1, 1000) if _sampled_error(x0, xT, T, N) <= tolerance)
                      for x0, xT, T, tolerance in problems])
    given = np.array([_steps(answer(x0.copy(), xT.copy(), T, tolerance))
                      for x0, xT, T, tolerance in problems])
    if not np.array_equal(given, right):
        _explain_steps(given, right, problems)
    turned, T = (np.array([0.0, -1.0]), np.array([0.0, 1.0])), 4.0
    dp = turned[1][0] - turned[0][0] - turned[0][1] * T
    half = (turned[1][1] - turned[0][1]) * T / 2
    constant = as_number(answer(*turned, T, 0.01), "The number of steps")
    if constant != 1:
        raise Wrong("Right for twelve random problems, but not for this one: from −1 m/s to "
                    f"+1 m/s, back to the same place in {T:g} s. Δp = {dp:g} m and ½ Δv T = "
                    f"{half:g} m, so the final error is 0 with any number of steps. The fewest is "
                    f"1; you say {constant:g}.")
    start, metre = np.array([0.0, 0.0]), np.array([1.0, 0.0])
    whole = as_number(answer(start, metre, 2.0, 0.0625), "The number of steps")
    refuse(
        (whole == 5, "Where the formula gives a whole number (from 0 to 1 m in 2 s, tolerance "
                     "1/16: √16 = 4) that number is enough. If you simulate, allow for rounding: "
                     "tolerance * (1 + 1e-9). If not, do not add one: math.ceil does not."),
        (whole != 4, f"From 0 to 1 m in 2 s, tolerance 1/16, 4 steps are enough, and you say "
                     f"{whole:g}."))
    return ("N grows with the square root of the distance: ten times the accuracy takes only 3.2 "
            "times the steps. N is never 0.")


def _steps(given):
    """The number of steps that an answer gives."""
    refuse((isinstance(given, float) and math.isnan(given), "You return NaN. Is it the root of a "
            "negative number? |Δp − ½ Δv T| is an absolute value."))
    return as_number(given, "The number of steps")


def _explain_steps(given, right, problems):
    """Raise `Wrong` for the numbers of steps of all problems, of which some are wrong."""
    x0, xT, T, tolerance = (np.array(part) for part in zip(*problems))
    dp, v0, vT = xT[:, 0] - x0[:, 0], x0[:, 1], xT[:, 1]

    def root(distance):
        return np.sqrt(np.abs(distance) / tolerance)

    for distance, message in (
        (dp - (vT - v0) / 2 * T,
         "Δp is measured from where the cart coasts to. Did you forget v_0 T?"),
        (dp - v0 * T, "The part −½ Δv T is missing: a change of velocity covers distance, too."),
        (dp - v0 * T + (vT - v0) / 2 * T, "The sign of ½ Δv T is flipped."),
        (dp, "Δp − ½ Δv T is not the distance p_T − p_0: both velocities count, too."),
    ):
        steps = root(distance)
        recognise(given, [(rounded(steps), message) for rounded in (np.ceil, np.floor, np.round)])
    signed = dp - (v0 + vT) / 2 * T
    exact = root(signed)
    recognise(given, [
        (np.ceil(exact**2), "Did you forget the root? The final error falls with N², so a 100 "
                            "times smaller error takes 10 times the steps."),
        (exact, f"Steps are whole: {exact[0]:.2f} is not possible. Which way must you round?"),
        (np.floor(exact), "Rounded down, the final error is still above the tolerance. Round up."),
        (np.round(exact), "Rounded to the nearest, which is too few half of the time. Round up."),
        (right + 1, "One step too many: N − 1 is enough each time. Points instead of steps?"),
        (np.ceil(15 * exact), "The 15 of the chapter does not belong here: N counts the steps of "
                              "the whole time T."),
        (np.ceil(T * exact), "One factor T too many: it is in Δp and in Δv T already. The "
                            "formula gives N, not a time."),
        (T / right, "That is dt in seconds; return the number of steps N = T / dt."),
    ])
    refuse(((given == right)[signed > 0].all() and (signed < 0).any(),
            "Right only where Δp − ½ Δv T is positive. A distance is its absolute value."))
    worst = int(np.argmax(given != right))
    (x0, xT, T, tolerance), N, enough = problems[worst], given[worst], right[worst]
    at = (f"From {x0.round(2).tolist()} to {xT.round(2).tolist()} in {T:.2f} s, tolerance "
          f"{tolerance}: your N = {N:.0f}")
    refuse((N < 1 or N % 1, f"N = {N:g} is no number of steps: it is whole, and at least 1."),
           (N > enough, f"{at} is enough, but so is {enough}."))
    raise Wrong(f"{at} has a final error of {_sampled_error(x0, xT, T, int(N)):.3g}; {enough} "
                "steps are needed.")


@exercise
def least_energy(answer):
    """Check u [N, m] = answer(A [n, n], B [n, m], N, x0 [n], xT [n]), the least-energy controls."""
    rng = np.random.default_rng(2)
    systems = [(*CART, 15)]
    for n, m, N in ((3, 2, 6), (4, 3, 5)):
        A = rng.normal(size=(n, n))
        systems.append((A / np.abs(np.linalg.eigvals(A)).max(), rng.normal(size=(n, m)), N))
    for A, B, N in systems:
        n, m = B.shape
        x0, xT = rng.uniform(-2, 2, n), rng.uniform(-2, 2, n)
        C = _responses(A, B, N)
        by_entry = np.hstack([A**k @ B for k in reversed(range(N))])
        short, drift, long = (np.linalg.matrix_power(A, k) @ x0 for k in (N - 1, N, N + 1))

        def shortest(d, C=C, N=N, m=m):
            return np.linalg.lstsq(C, d, rcond=None)[0].reshape(N, m)

        blocks = "C has N blocks, A^(N−1) B down to A^0 B."
        u = as_array(answer(A.copy(), B.copy(), N, x0.copy(), xT.copy()), (N, m), "u", {
            (N * m,): f"u is one vector of {N * m}; reshape it to [{N}, {m}]: a row for each step.",
            (m, N): f"The axes are swapped: u should be [{N}, {m}], steps first.",
            (N - 1, m): f"One step is missing: {blocks}",
            (N + 1, m): f"One step too many: {blocks}",
        })
        right = shortest(xT - drift)
        error = np.linalg.norm(_simulate(A, B, x0, u) - xT)
        times = (u**2).sum() / (right**2).sum()
        system = f"With {n} states and {m} control{'s' * (m > 1)} your controls"
        excess = f"{100 * (times - 1):.2g} % more than" if times < 3 else f"{times:.3g} times"
        judge(u, right, [
            (right[::-1], "The right controls in the wrong order: the first control acts longest, "
                          "so the first block of C is A^(N−1) B and the last is B."),
            (-right, "The sign is flipped: d is xT − A^N x0, not A^N x0 − xT."),
            (2 * right, "Twice the right controls."),
            (shortest(xT), "A^N x0 is forgotten: that is right only from the origin."),
            (shortest(xT - A**N @ x0), shortest(xT - A**N @ x0, by_entry),
             shortest(xT - drift, by_entry), "A ** N raises each entry; A^N is "
                                             "np.linalg.matrix_power(A, N)."),
            (shortest(xT - x0), "x0 does not stay: without control the state drifts to A^N x0."),
            (shortest(xT - short), "Off by one: x0 drifts for N steps, not N − 1."),
            (shortest(xT - long), "Off by one: x0 drifts for N steps, not N + 1."),
            (shortest(xT - drift, A @ C),
             "Off by one: your blocks of C are A^N B to A B. The last one is not multiplied by A."),
            (right.reshape(m, N).T, f"Steps and controls are mixed: all {m} controls of step 0 "
                                    f"come first. Reshape to [{N}, {m}] without a transpose."),
        ], first(
            (error > 1e-7, f"{system} have a final error of {error:.2g}."),
            (True, f"{system} arrive, but take {excess} the least energy: are they in the row "
                   "space of C, Cᵀ times something?")))
    return ("three lines serve every controllable linear system. Only C and A^N depend on the "
            "system; the geometry is the same.")


@exercise
def least_cost(answer):
    """Check u [N] = answer(C [n, N], d [n], r [N]): C u = d with the least sum of r_k u_k^2."""
    rng = np.random.default_rng(3)
    for C in (rng.normal(size=(3, 8)), rng.normal(size=(2, 6)), _responses(*CART, 15)):
        n, N = C.shape
        d, r = rng.uniform(-2, 2, n), rng.uniform(0.2, 5, N)

        def weighted(r, C=C, d=d, n=n, N=N):
            """The stationary point of ½ sum r u² + λ (C u − d)."""
            kkt = np.block([[np.diag(r), C.T], [C, np.zeros((n, n))]])
            return np.linalg.solve(kkt, np.concatenate([np.zeros(N), d]))[:N]

        right, plain = weighted(r), weighted(np.ones(N))
        u = as_array(answer(C.copy(), d.copy(), r.copy()), (N,), "u", {
            (N, 1): "Return u as [N], one number a step: drop the last axis.",
        })
        more, more_plain = (r @ v**2 / (r @ right**2) - 1 for v in (u, plain))
        error = np.linalg.norm(C @ u - d)
        judge(u, right, [
            (plain, "The weights have no effect: that is the least Σ u², whose Σ r u² is "
                    f"{more_plain:.0%} above the least."),
            (-right, "The sign is flipped: you arrive at −d."),
            (weighted(1 / r),
             "r the wrong way round: divide by r, to use less control where it costs more."),
            (weighted(r**2),
             "That is the least Σ r² u². With w = √r u, w² is r u²: a root is missing."),
            (weighted(np.sqrt(r)), "That is the least Σ √r u²: one root too many."),
            (np.sqrt(r) * right, "That is w = √r u, whose cost is Σ w². Undo the substitution."),
            (r * right, "That is r u: divide by r. (Or, from w back to u: divide by √r.)"),
            (r * weighted(r**2), "w = √r u: you forgot the root, and the way back to u."),
            (weighted(1 / r) / r,
             "C u = (C / √r) w: you multiply the columns of C by √r."),
            (plain / r, "You scale the plain solution, which then no longer arrives. 1/r belongs "
                        "inside the inverse as well: C R⁻¹ Cᵀ, with R = diag(r)."),
            (plain / np.sqrt(r), "That does not arrive. Divide the columns of C by √r, too."),
        ], first(
            (error > 1e-7, f"C u should be d, and is {error:.2g} away from it."),
            (True, f"Your u arrives, but costs {100 * more:.2g} % more than needed: r u (each "
                   "r_k u_k), not u itself, must be Cᵀ times something.")))
    return "the same law in another norm: lengths are weighted by r, and equal weights cancel out."
