"""Checks of chapter 2: a student who only remembers, leaks between two sets, the bound of a
control, a loss in physical units.
"""

import itertools

import numpy as np
import scipy.spatial

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
from trc_lib.data import generate_dataset


def _final_state(x0, u):
    """The last states [m, 2] of the cart after the controls u [m, N] from x0 [m, 2]."""
    (p, v), dt = np.asarray(x0, dtype=np.float64).T, 0.33
    for now in np.asarray(u, dtype=np.float64).T:
        p, v = p + v * dt + now * dt**2 / 2, v + now * dt
    return np.stack([p, v], axis=1)


def _problems(data):
    return np.concatenate([data.initial_states, data.target_states], axis=1)


@exercise
def memory_student(answer):
    """Check guesses [2], errors [2] = answer(known [n, 4], answers [n, N], tests, final_state)."""
    train, other, again = (generate_dataset(count, seed)
                           for count, seed in ((4000, 11), (400, 12), (400, 11)))
    known, answers = _problems(train), train.controls[:, :, 0].numpy()
    tests = [_problems(other), _problems(again)]
    given = several(answer(known.copy(), answers.copy(), [each.copy() for each in tests],
                           _final_state), "your guesses", "the measured errors")
    many = given[0] if isinstance(given[0], (list, tuple)) else [given[0]]
    refuse((any(each is None or each is ... for each in many),
            "Write down your two guesses first."))
    guesses, errors = (as_array(part, (2,), what) for part, what in zip(
        given, ("The list of guesses", "The list of errors")))

    def outcome(of, score):
        chosen = (answers[scipy.spatial.KDTree(of(known)).query(of(test))[1]] for test in tests)
        return [score(_final_state(test[:, :2], u) - test[:, 2:])
                for test, u in zip(tests, chosen)]

    def distance(off):
        return np.linalg.norm(off, axis=1)

    def mean(off):
        return distance(off).mean()

    right = outcome(np.asarray, mean)
    if not same(errors, right, 1e-3):
        nearest = [scipy.spatial.KDTree(known).query(test)[1] for test in tests]
        recognise(errors, [
            (right[::-1], "The order: first the test set of another seed, then the one of the "
                          "training seed."),
            (outcome(np.asarray, lambda off: np.median(distance(off))),
             "That is the median of the final errors; take the mean."),
            (outcome(np.asarray, lambda off: np.sqrt((off**2).sum(axis=1).mean())),
             outcome(np.asarray, lambda off: (off**2).sum(axis=1).mean()),
             "That is the mean of the squares, or its root: take the mean of |x_N − x_T|."),
            (outcome(np.asarray, lambda off: (off**2).mean()),
             outcome(np.asarray, lambda off: np.abs(off).mean()),
             outcome(np.asarray, lambda off: np.abs(off).sum(axis=1).mean()),
             "That is a mean over both numbers of the state. |x_N − x_T| is one number a "
             "problem: the root of the sum of both squares."),
            (outcome(lambda rows: rows[:, :2], mean),
             "Your student looks at the start only. A problem is four numbers."),
            (outcome(lambda rows: rows[:, 2:], mean),
             "Your student looks at the target only. A problem is four numbers."),
            ([mean(_final_state(known[rows, :2], answers[rows]) - test[:, 2:])
              for test, rows in zip(tests, nearest)],
             "Your carts start where the *known* problems start. Start at test[:, :2]."),
            ([mean(_final_state(test[:, :2], 0 * answers[rows]) - test[:, 2:])
              for test, rows in zip(tests, nearest)],
             "That is the error with no push at all. Simulate the stored answers."),
        ], 1e-3)
        found, wanted = apart(errors[0], right[0])
        if same(errors[0], right[0], 1e-3):
            raise Wrong("The error on problems of the training seed is not right: there the "
                        f"nearest known problem is the same problem. You measure {errors[1]:.3g}.")
        raise Wrong(f"On problems of another seed you measure {found}; it is {wanted}. Is the "
                    "nearest problem the nearest in all four numbers, does the cart start where "
                    "the *new* problem starts, and is its final state compared with the *new* "
                    "target?")
    return (f"another seed {errors[0]:.2f}, you guessed {guesses[0]:g}; the training seed "
            f"{abs(errors[1]):.2f}, you guessed {guesses[1]:g}. With 10,000 known problems the "
            "first of them was 0.72. On leaked problems this student is "
            "perfect, because it has seen them. A leak makes no student better; it makes the test "
            "useless.")


@exercise
def control_bounds(answer):
    """Check bound [K] = answer(gain [K, d], low [d], high [d]): the largest |gain z| in the box."""
    rng = np.random.default_rng(0)
    for rows, d, off_centre in ((6, 4, True), (15, 4, True), (5, 3, False)):
        gain = rng.normal(size=(rows, d))
        half, centre = rng.uniform(0.5, 2, d), rng.uniform(-2, 2, d) * off_centre
        low, high, size = centre - half, centre + half, np.abs(gain)
        corners = np.array(list(itertools.product(*zip(low, high))))  # [2^d, d]
        right = np.abs(corners @ gain.T).max(axis=0)
        bound = as_array(answer(gain.copy(), low.copy(), high.copy()), (rows,), "The bound", {
            (rows, 1): f"Return [{rows}], one number a control: drop the last axis."})
        loose = size @ np.maximum(np.abs(low), np.abs(high))
        k = int(np.argmax(np.abs(bound - right) / right))
        said, wanted = apart(bound[k], right[k])
        judge(bound, right, [
            (-right, "The sign is flipped: a bound on |u| is not negative."),
            (size @ half,
             "That is for a box around the origin; this one has a centre, where u is not 0."),
            (np.abs(gain @ centre) + size @ (2 * half),
             "Twice too far from the centre: the distance to a face is half of high − low."),
            (np.maximum(np.abs(gain @ low), np.abs(gain @ high)),
             f"That is only two of the {2**d} corners, all low and all high. The worst end of each "
             "component depends on the sign of its own coefficient."),
            (np.abs(gain @ high),
             f"That is one of the {2**d} corners, all high. The worst one depends on the signs."),
            (gain @ centre + size @ half, "That is the largest u, with its sign. The bound is on "
                                          "|u|: the lowest u can be further from 0."),
            (loose, f"Never exceeded, but loose, by up to {(loose / right - 1).max():.0%}: each "
                    "component takes its larger end. No single corner does that for all."),
            (np.abs(corners[:, None] * gain).max(axis=(0, 2)),
             "That is the largest single term; the terms of one control add up."),
            (right.max() * np.ones(rows),
             "That is the largest of the bounds for all steps. Each control has its own."),
        ], first(
            (bound[k] < right[k],
             f"That is not a bound: you say |u_{k}| ≤ {said}, and at a corner of the box it is "
             f"{wanted}. (Samples are rarely near a corner.)"),
            (True, f"That is a bound, but not exact: you say |u_{k}| ≤ {said}, and the largest is "
                   f"{wanted}.")))
    return "two products instead of 2^d corners. No control in data from this box is larger."


def _leaky_split(rng, n, m):
    """Training and eval problems, [n, 4] and [m, 4], and the eval rows of each kind of copy."""
    train, test = rng.uniform(-2.5, 2.5, (2, max(n, m), 4))
    train, test = train[:n], test[:m]
    rows, places = rng.permutation(n)[:24], rng.permutation(m)[:24]
    kinds = {kind: slice(4 * i, 4 * i + 4)
             for i, kind in enumerate(("exact", "float32", "edge", "near", "mixed",
                                   "close"))}
    for component, row in enumerate(rows[kinds["close"]]):
        train[row, component] = 2.0
    train[rows[kinds["edge"]], 1:] = np.linspace(1.1, 2.2, 12).reshape(4, 3)
    test[places] = train[rows]
    test[places[kinds["float32"]]] = np.float32(train[rows[kinds["float32"]]])
    # 4e-7 apart, on both sides of a rounding boundary at 3, 4, 5 or 6 decimals
    edge = 1 + 0.5 * 10.0 ** -np.arange(3, 7)
    train[rows[kinds["edge"]], 0], test[places[kinds["edge"]], 0] = edge - 2e-7, edge + 2e-7
    test[places[kinds["edge"]][:2], 1:] += 9e-7  # a distance of 1.6e-6, and a copy
    test[places[kinds["near"]], 2] += 1e-3
    for component, place in enumerate(places[kinds["close"]]):
        test[place, component] += 1.5e-6  # np.isclose's rtol would call these equal
    # this start, and the target of another problem
    test[places[kinds["mixed"]], 2:] = train[(rows[kinds["mixed"]] + 1) % n, 2:]
    train[(rows[0] + 1) % n] = train[rows[0]]  # one problem is in the training set twice
    return train, test, {kind: set(places[part].tolist()) for kind, part in kinds.items()}


@exercise
def leaked(answer):
    """Check answer(train [n, 4], test [m, 4]): the indices of the test rows that are in train."""
    rng = np.random.default_rng(1)
    for n, m in ((300, 80), (60, 200)):
        train, test, kinds = _leaky_split(rng, n, m)
        equal = (np.abs(test[:, None] - train) <= 1e-6).all(axis=2)  # [m, n]
        signed = (test[:, None] - train <= 1e-6).all(axis=2).any(axis=1)  # [m]
        right = set(np.flatnonzero(equal.any(axis=1)).tolist())
        distance = scipy.spatial.KDTree(train).query(test)[0]  # [m]
        found = _indices(answer(train.copy(), test.copy()), m)
        missed, extra = right - found, found - right
        rounded, close = kinds["float32"] | kinds["edge"], kinds["close"]
        refuse(
            (found != right and found == set(np.flatnonzero(equal.any(axis=0)).tolist()),
             "These are rows of the training set, not of the eval set. The axes are swapped."),
            (found == {i + 1 for i in right},
             "All of yours are one too high: indices count from 0."),
            (found == set(range(m)) - right,
             "The other way round: these are the eval problems that are new."),
            (not found, f"You find none, and there are {len(right)}. Compare each eval problem "
                        "with every training problem, not only with the one in the same row, "
                        "and ask whether it equals any of them, not all."),
            (found != right and found == set(np.flatnonzero(signed).tolist()),
             "You compare signed differences: a problem that is smaller in all four numbers "
             "passes, however far away. Take np.abs first."),
            (kinds["mixed"] <= found,
             f"{len(kinds['mixed'])} of yours have a known start, but another target. It is a leak "
             "only if all four numbers are those of one training problem."),
            (kinds["near"] & found, "Your tolerance is too wide: you report problems that are "
                                    "0.001 away from a training problem. They are new."),
            (found != right and found == set(np.flatnonzero(distance <= 1e-6).tolist()),
             "You miss copies whose numbers differ by less than 1e-6 each, while their distance is "
             "1.6e-6. The limit is for each number, not for the distance (KDTree: p=np.inf)."),
            (extra & close and not missed, "You report problems that differ by 1.5e-06. The "
             "limit is 1e-6, in every number. (np.isclose needs rtol=0, a KDTree p=np.inf.)"),
            (extra - close,
             f"{len(extra)} of yours are not in the training set: {min(extra, default=0)}, ..."),
            (missed == rounded,
             f"You find the {len(found)} exact copies, and miss {len(missed)} that differ in the "
             "seventh digit, as after a conversion to float32. Compare with a tolerance, not with "
             "==."),
            (missed and missed <= rounded,
             f"Of {len(right)} copies you miss {len(missed)}. Rounding before the comparison "
             "separates neighbours (1.00049999 and 1.00050001 round to 1.000 and 1.001): compare "
             "the difference with the tolerance."),
            (missed,
             f"You find {len(found)} of {len(right)}; you missed {min(missed, default=0)}."))
    train, test = rng.uniform(-2.5, 2.5, (2, 50, 4))
    refuse((_indices(answer(train, test), 50),
            "Right when there is a leak; but in a split without one you report some."))
    return ("run these few lines before every evaluation: a leak raises no error, and flatters "
            "whoever remembers.")


def _indices(given, m):
    """The set of indices that were given, or `Wrong`."""
    if isinstance(given, set | frozenset):
        given = sorted(given)
    elif hasattr(given, "__next__"):  # a generator
        given = list(given)
    array = np.asarray(given)
    refuse(
        (array.dtype == bool and array.shape == (m,), f"That is a mask of {m} Trues and Falses; "
         "return the indices of the Trues: np.flatnonzero makes them."),
        (isinstance(given, tuple) and len(given) == 1 and np.ndim(given[0]) == 1,
         "np.where and np.nonzero give a tuple; return its first element, [0]."),
        (array.ndim == 2 and array.shape[1] == 1,
         "np.argwhere gives a column; np.flatnonzero gives the indices themselves."),
        (array.ndim != 1,
         f"The indices have shape {list(array.shape)}; they should be one-dimensional."),
        (array.size and (array.dtype.kind not in "iuf" or (array % 1).any()),
         "Indices are whole numbers."))
    indices = {int(each) for each in array}
    refuse(
        (len(indices) < len(array), "Some indices come more than once: a problem that is in the "
                                    "training set twice is still one leak."),
        (not indices <= set(range(m)),
         f"Index {max(indices, default=0)}, but {m} eval problems: rows of the training set?"))
    return indices


@exercise
def physical_loss(answer):
    """Check answer(scaled [n, N, m], targets [n, N, m], sigma [m]): the MSE in physical units."""
    rng = np.random.default_rng(2)
    for m in (2, 1):
        sigma = np.array([0.5, 3.0])[:m]
        targets = sigma * rng.normal(size=(20, 15, m))
        scaled = targets / sigma + 0.3 * rng.normal(size=(20, 15, m)) * np.array([1.0, 2.0])[:m]
        off, squares = scaled * sigma - targets, (scaled - targets / sigma) ** 2
        right = sum(float(x) ** 2 for x in off.ravel()) / off.size
        loss = as_number(answer(scaled.copy(), targets.copy(), sigma.copy()), "The loss")
        words = apart(loss, right)
        judge(loss, right, [
            (((scaled - targets) ** 2).mean(),
             "sigma is forgotten: scaled predictions are compared with raw targets."),
            (squares.mean(), "Both sides are scaled, so the loss is in units of sigma². Multiply "
                             "the predictions instead of dividing the targets."),
            (((scaled / sigma - targets) ** 2).mean(),
             "You divide by sigma; to undo the scaling, multiply."),
            (((scaled * sigma**2 - targets) ** 2).mean(),
             "sigma twice: predictions are in units of sigma, not sigma²."),
            ((sigma * squares).mean(), sigma.mean() * squares.mean(),
             "sigma must be squared when it multiplies a squared error; each control has its own."),
            ((sigma**2).mean() * squares.mean(), sigma.mean() ** 2 * squares.mean(),
             "No single factor does it: each control has its own sigma, and its own error. Scale "
             "the predictions back before squaring."),
            (np.sqrt(right), "That is the root of the mean square; leave the root out."),
            (np.abs(off).mean(), "That is the mean of |error|; square, then take the mean."),
            (off.mean() ** 2,
             "You square the mean, so errors of opposite signs cancel. Square first."),
            (right * off.size, "That is the sum; take the mean over problems, steps and controls."),
            (right * off[0].size,
             f"Too large by {off[0].size} = N m: take the mean over steps and controls, too."),
            (right * m, f"Too large by {m}: take the mean over the controls, too."),
        ], f"With {m} control{'s' * (m > 1)} your loss is {' and the right one '.join(words)}.")
        perfect = as_number(answer(targets / sigma, targets.copy(), sigma.copy()), "The loss")
        refuse((perfect > 1e-12, "With outputs targets / sigma the loss should be 0."))
    return ("with one sigma the two losses differ by the factor sigma²; with several, no factor "
            "converts the one into the other.")
