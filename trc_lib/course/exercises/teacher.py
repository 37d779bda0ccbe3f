"""The exercises of chapter 1: each check tries the learner's function on problems with fixed seeds.

The references share no code with the law that is taught: unit pushes are simulated, N is counted up, KKT systems solved.
"""

import math

import numpy as np
import scipy.linalg

from trc_lib.course.exercises.check_result import Wrong, as_array, exercise, recognise, same


def _refuse_rounding(given, right):
    """Right but for a small part, of the size that float32 leaves: say so."""
    off = np.abs(given - right).max()
    if off < 1e-5 * max(1, np.abs(right).max()):
        raise Wrong(f"right idea, but off by {off:.0e}, as after a way through float32. A teacher is exact: stay in float64.")


def _simulate(A, B, x, controls):
    """The last state, [n], after the controls [N, m]."""
    for u in controls:
        x = A @ x + B @ u
    return x


def _cart(N, dt):
    """A, B and the end-point matrix C [2, N] of the cart; C's columns are simulated unit pushes."""
    A, B = np.array([[1.0, dt], [0.0, 1.0]]), np.array([[dt**2 / 2], [dt]])
    return A, B, np.stack([_simulate(A, B, np.zeros(2), push[:, None]) for push in np.eye(N)], axis=1)


@exercise
def null_projector(answer):
    """Check P [N, N] = answer(C [n, N]), the projector onto the null space of C."""
    rng = np.random.default_rng(0)
    for C in (rng.normal(size=(2, 6)), 0.3 * rng.normal(size=(3, 8)), _cart(15, 0.33)[2]):
        n, N = C.shape
        given = answer(C.copy())
        if getattr(given, "shape", None) == (N, N - n):
            raise Wrong(f"that is a basis of the null space, [{N}, {N - n}]. The projector is [{N}, {N}]: "
                        "take the coordinates along the basis, then put the vector together again.")
        if getattr(given, "shape", None) == (n, n):
            raise Wrong(f"[{n}, {n}] acts on states. The projector acts on controls, so it is [{N}, {N}]: "
                        "C⁺ C has that shape, C C⁺ has not.")
        P = as_array(given, (N, N), "P")
        basis = scipy.linalg.null_space(C)
        right = basis @ basis.T
        if same(P, right):
            continue
        recognise(P, [
            (np.eye(N) - right, "that projects onto the row space: it keeps the miss and drops the waste. "
                                "The null space is what is left over."),
            (-right, "the sign is flipped: P w should be w, not −w, for a w that moves nothing."),
            (np.eye(N) - C.T @ C, f"CᵀC would be a projector only if C had orthonormal rows; here P P differs from P by up to "
                                  f"{np.abs((np.eye(N) - C.T @ C) @ (np.eye(N) - C.T @ C) - np.eye(N) + C.T @ C).max():.2g}. "
                                  "(C Cᵀ)⁻¹ is missing between the two."),
        ])
        _refuse_rounding(P, right)
        if np.abs(C @ P).max() > 1e-8:
            raise Wrong(f"C P should be 0, but has an entry of size {np.abs(C @ P).max():.2g}: "
                        "what your P lets through still moves the end point.")
        if np.abs(P @ P - P).max() > 1e-8:
            raise Wrong(f"C P = 0, but P P differs from P by {np.abs(P @ P - P).max():.2g}: projecting twice must "
                        "change nothing. Are the columns of your basis of length one?")
        if np.abs(P - P.T).max() > 1e-8:
            raise Wrong(f"P is a projector, but slanted: P and Pᵀ differ by {np.abs(P - P.T).max():.2g}, "
                        "so Pythagoras would not hold. What it removes must be in the row space.")
        raise Wrong(f"P drops too much: its trace is {np.trace(P):.1f}, but {N - n} of {N} directions move nothing.")
    return "P P = P and C P = 0. Its trace is N − n, for the cart 13 of 15: so many directions of u only cost energy."


def _sampled_miss(x0, xT, T, N):
    """By how much the line a + b t, held at mid-step values over N steps, misses: by simulation."""
    # a and b from the two conditions on arrival: the integral of u is dv, that of (T - t) u is dp
    a, b = np.linalg.solve([[T, T**2 / 2], [T**2 / 2, T**3 / 6]], [xT[1] - x0[1], xT[0] - x0[0] - x0[1] * T])
    (p, v), dt = x0, T / N
    for k in range(N):
        u = a + b * (k + 0.5) * dt
        p, v = p + v * dt + u * dt**2 / 2, v + u * dt
    return math.hypot(p - xT[0], v - xT[1])


@exercise
def enough_steps(answer):
    """Check N = answer(x0 [2], xT [2], T, tolerance): the fewest steps with which the sampled law misses by no more."""
    rng = np.random.default_rng(1)
    problems = []
    while len(problems) < 12:
        x0, xT, T = rng.uniform(-2, 2, 2), rng.uniform(-2, 2, 2), rng.uniform(2, 6)
        tolerance = (0.1, 0.01, 0.004)[len(problems) % 3]
        ratio = math.sqrt(_sampled_miss(x0, xT, T, 1) / tolerance)
        if ratio > 2 and 0.05 < ratio % 1 < 0.95:  # far from where rounding could decide
            problems.append((x0, xT, T, tolerance))
    right = [next(N for N in range(1, 1000) if _sampled_miss(*problem[:3], N) <= problem[3]) for problem in problems]
    given = np.array([as_array(answer(x0.copy(), xT.copy(), T, tolerance), (), "the number of steps")
                      for x0, xT, T, tolerance in problems])

    def each(formula):
        return np.array([formula(xT[0] - x0[0], x0[1], xT[1], T, tolerance) for x0, xT, T, tolerance in problems])

    way = each(lambda dp, v0, vT, T, e: abs(dp - (v0 + vT) / 2 * T) / e)  # the miss with one step, in tolerances
    if not np.array_equal(given, right):
        drift = "Δp is measured from where the cart would coast to: p_T − p_0 − v_0 T. Did you forget v_0 T?"
        for formula, message in {
            lambda dp, v0, vT, T, e: abs(dp - (vT - v0) / 2 * T) / e: drift,
            lambda dp, v0, vT, T, e: abs(dp - v0 * T) / e: "the part −½ Δv T is missing: a change of velocity covers way too.",
            lambda dp, v0, vT, T, e: abs(dp - v0 * T + (vT - v0) / 2 * T) / e: "the sign of ½ Δv T is flipped.",
            lambda dp, v0, vT, T, e: abs(dp) / e: "Δp − ½ Δv T is not the way p_T − p_0: both velocities count too.",
        }.items():
            recognise(given, [(rounded(np.sqrt(each(formula))), message) for rounded in (np.ceil, np.floor, np.round)])
        recognise(given, [
            (np.ceil(way), "did you forget the root? The miss falls with N², so 100 times less of it needs 10 times the steps."),
            (np.sqrt(way), f"steps are whole: {math.sqrt(way[0]):.2f} of them cannot be taken. Which way must you round?"),
            (np.floor(np.sqrt(way)), "rounded down, which is just too few: the miss is still above the tolerance. Round up."),
            (np.round(np.sqrt(way)), "rounded to the nearest, which is too few half of the time. Round up."),
            (np.array(right) + 1, "one step too many: N − 1 is enough each time. Counting points instead of steps?"),
            (each(lambda dp, v0, vT, T, e: T) / right, "that is dt in seconds; asked is the number of steps N = T / dt."),
        ])
        worst = int(np.argmax(given != right))
        (x0, xT, T, tolerance), N = problems[worst], given[worst]
        if N < 1 or N % 1:
            raise Wrong(f"N = {N:g} is no number of steps: it is whole, and at least 1.")
        at = f"from {x0.round(2).tolist()} to {xT.round(2).tolist()} in {T:.2f} s, tolerance {tolerance}: your N = {N:.0f} "
        if N > right[worst]:
            raise Wrong(f"{at}is enough, but so is {right[worst]}.")
        raise Wrong(f"{at}misses by {_sampled_miss(x0, xT, T, int(N)):.3g}; {right[worst]} steps are needed.")
    if as_array(answer(np.array([0.0, -1.0]), np.array([0.0, 1.0]), 4.0, 0.01), (), "the number of steps") != 1:
        raise Wrong("right for all problems but one: from −1 m/s to +1 m/s with no way to go nothing is missed, "
                    "and the answer is still at least 1 step.")
    return "N grows with the root of the way to go: ten times the accuracy costs only 3.2 times the steps. It never gets to 0."


@exercise
def least_energy(answer):
    """Check u [N, m] = answer(A [n, n], B [n, m], N, x0 [n], xT [n]), the least-energy controls of any system."""
    rng = np.random.default_rng(2)
    cases = [(*_cart(15, 0.33)[:2], 15)]
    for n, m, N in ((3, 2, 6), (4, 3, 5)):
        A = rng.normal(size=(n, n))
        cases.append((A / np.abs(np.linalg.eigvals(A)).max(), rng.normal(size=(n, m)), N))
    for A, B, N in cases:
        n, m = B.shape
        x0, xT = rng.uniform(-2, 2, n), rng.uniform(-2, 2, n)
        pushes = np.eye(N * m).reshape(N * m, N, m)
        C = np.stack([_simulate(A, B, np.zeros(n), push) for push in pushes], axis=1)  # [n, N * m]
        powers = [np.linalg.matrix_power(A, k) @ x0 for k in range(N + 1)]

        def shortest(d, C=C):
            return np.linalg.lstsq(C, d, rcond=None)[0]

        right = shortest(xT - powers[N]).reshape(N, m)
        given = answer(A.copy(), B.copy(), N, x0.copy(), xT.copy())
        for shape, message in {
            (N * m,): f"u is one long vector of {N * m}; reshape it to [{N}, {m}]: a row for each step.",
            (m, N): f"the axes are swapped: u should be [{N}, {m}], steps first.",
            (N - 1, m): "one step is missing: C has N blocks, A^(N−1) B down to A^0 B.",
            (N + 1, m): "one step too many: C has N blocks, A^(N−1) B down to A^0 B.",
        }.items():
            if getattr(given, "shape", None) == shape:
                raise Wrong(message)
        u = as_array(given, (N, m), "u")
        if same(u, right):
            continue
        recognise(u, [
            (right[::-1], "the right controls in the wrong order: the first push acts longest, "
                          "so the first block of C is A^(N−1) B and the last is B."),
            (-right, "the sign is flipped: what is to be covered is xT − A^N x0, not A^N x0 − xT."),
            (shortest(xT).reshape(N, m), "A^N x0 is forgotten: your cart is steered as if it started at the origin, at rest."),
            (shortest(xT - x0).reshape(N, m), "x0 does not stay where it is: left alone the state drifts to A^N x0."),
            (shortest(xT - powers[N - 1]).reshape(N, m), "off by one: x0 drifts for N steps, not N − 1."),
            (shortest(xT - A @ powers[N]).reshape(N, m), "off by one: x0 drifts for N steps, not N + 1."),
            (shortest(xT - powers[N], A @ C).reshape(N, m), "off by one: your blocks of C are A^N B to A B. "
                                                            "The last push is not multiplied by A any more."),
            (right.reshape(m, N).T, f"steps and controls got mixed: all {m} controls of step 0 come first, then those of step 1; "
                                    f"reshape to [{N}, {m}] at once, without a transpose."),
        ])
        _refuse_rounding(u, right)
        miss = np.linalg.norm(_simulate(A, B, x0, u) - xT)
        system = f"for a system with {n} states and {m} control{'s' * (m > 1)}"
        if miss > 1e-7:
            raise Wrong(f"{system} your controls miss by {miss:.2g}.")
        times = (u**2).sum() / (right**2).sum()
        waste = f"waste {times - 1:.0%} energy" if times < 3 else f"take {times:.3g} times the least energy"
        raise Wrong(f"{system} your controls arrive, but {waste}: "
                    "did you make sure that they are in the row space of C, Cᵀ times something?")
    return "three lines for every controllable linear system. Only C knows which system it is; the geometry is the same."


@exercise
def least_cost(answer):
    """Check u [N] = answer(C [n, N], d [n], r [N]): of all u with C u = d the one with the least sum of r_k u_k^2."""
    rng = np.random.default_rng(3)
    for C in (rng.normal(size=(3, 8)), rng.normal(size=(2, 6)), _cart(15, 0.33)[2]):
        n, N = C.shape
        d, r = rng.uniform(-2, 2, n), rng.uniform(0.2, 5, N)

        def weighted(r, C=C, d=d, n=n, N=N):
            """Stationary point of ½ sum r u² + λ (C u − d), by its linear equations."""
            return np.linalg.solve(np.block([[np.diag(r), C.T], [C, np.zeros((n, n))]]), np.concatenate([np.zeros(N), d]))[:N]

        right, plain = weighted(r), weighted(np.ones(N))
        u = as_array(answer(C.copy(), d.copy(), r.copy()), (N,), "u")
        if same(u, right):
            continue
        more = (r * plain**2).sum() / (r * right**2).sum() - 1
        recognise(u, [
            (plain, f"the weights have no effect: that is the least Σ u², whose Σ r u² is {more:.0%} above the least."),
            (-right, "the sign is flipped: you arrive at −d."),
            (weighted(1 / r), "r the wrong way round: you push hardest where it is dearest. Divide by r, do not multiply."),
            (weighted(r**2), "that is the least Σ r² u²: the scaled control is w = √r u, so that w² = r u². A root is missing."),
            (weighted(np.sqrt(r)), "that is the least Σ √r u²: one root too many."),
            (np.sqrt(r) * right, "that is w = √r u, in which the problem is the plain one. Undo the substitution."),
            (plain / r, "scaled after the plain solution: it does not arrive any more. "
                        "1/r belongs inside the inverse as well: C R⁻¹ Cᵀ."),
            (plain / np.sqrt(r), "the plain solution divided by √r does not arrive. Divide the columns of C by √r, too."),
        ])
        _refuse_rounding(u, right)
        miss = np.linalg.norm(C @ u - d)
        if miss > 1e-7:
            raise Wrong(f"C u should be d, and is {miss:.2g} away from it.")
        more = (r * u**2).sum() / (r * right**2).sum() - 1
        raise Wrong(f"your u arrives, but costs {more:.1%} more than needed: "
                    "R u, not u itself, must be Cᵀ times something.")
    return "the same law in another ruler: lengths are measured with r, and with equal weights r cancels out."
