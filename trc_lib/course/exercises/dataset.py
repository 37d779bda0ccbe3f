"""The exercises of chapter 2: each check tries the learner's function on data with fixed seeds, against brute force."""

import itertools

import numpy as np

from trc_lib.course.exercises.check_result import Wrong, as_array, exercise, recognise, same


@exercise
def control_bounds(answer):
    """Check bound [K] = answer(gain [K, d], low [d], high [d]): the largest |gain_k z| over the box low <= z <= high."""
    rng = np.random.default_rng(0)
    for rows, d, off_centre in ((6, 4, True), (15, 4, True), (5, 3, False)):
        gain = rng.normal(size=(rows, d))
        half, centre = rng.uniform(0.5, 2, d), rng.uniform(-2, 2, d) * off_centre
        low, high = centre - half, centre + half
        corners = np.array(list(itertools.product(*zip(low, high))))  # [2^d, d]
        right = np.abs(corners @ gain.T).max(axis=0)
        bound = as_array(answer(gain.copy(), low.copy(), high.copy()), (rows,), "the bound")
        if same(bound, right):
            continue
        loose = np.abs(gain) @ np.maximum(np.abs(low), np.abs(high))
        recognise(bound, [
            (np.abs(gain) @ half, "that is for a box around the origin. This one has a centre (low + high) / 2, "
                                  "where the control is not 0 already."),
            (np.abs(gain @ centre) + np.abs(gain) @ (2 * half), "twice too far from the centre: from there to a face "
                                                                "it is half of high − low."),
            (np.maximum(np.abs(gain @ low), np.abs(gain @ high)), f"only two of the {2**d} corners, all low and all high. "
                                                                  "Each component chooses by the sign of its own coefficient."),
            (np.abs(gain @ high), f"only one of the {2**d} corners, all high. The worst one depends on the signs in gain."),
            (gain @ centre + np.abs(gain) @ half, "that is the largest u, with its sign. The bound is on |u|: "
                                                  "the lowest u can be further from 0."),
            (loose, f"never exceeded, but loose, by up to {(loose / right - 1).max():.0%}: each component takes its "
                    "larger end, whichever sign it then has. No single corner does that."),
            ((np.abs(corners[:, None] * gain)).max(axis=(0, 2)), "the largest single term; the terms of one control add up."),
            (right.max() * np.ones(rows), "one number for all steps: that is the largest of the bounds. "
                                          "Each control has its own."),
        ])
        k = int(np.argmax(np.abs(bound - right) / right))
        if bound[k] < right[k]:
            raise Wrong(f"not a bound: you say |u_{k}| ≤ {bound[k]:.3f}, and a corner of the box makes it {right[k]:.3f}. "
                        "(Samples from the box hardly ever get near a corner.)")
        raise Wrong(f"a bound, but not exact: you say |u_{k}| ≤ {bound[k]:.3f}, {bound[k] / right[k] - 1:.0%} above the largest "
                    f"that occurs, {right[k]:.3f}.")
    return "two products instead of 2^d corners. No network trained on this box ever sees a larger answer."


def _leaky_split(rng, n, m):
    """Training and eval problems, [n, 4] and [m, 4], and which eval rows are copies or only look like it."""
    train, test = rng.uniform(-2.5, 2.5, (2, max(n, m), 4))
    train, test = train[:n], test[:m]
    rows, places = rng.permutation(n)[:20], rng.permutation(m)[:20]
    kinds = {"exact": slice(0, 4), "float32": slice(4, 8), "edge": slice(8, 12), "near": slice(12, 16), "mixed": slice(16, 20)}
    test[places] = train[rows]
    test[places[kinds["float32"]]] = np.float32(train[rows[kinds["float32"]]])
    # 4e-7 apart, on the two sides of where rounding to 3, 4, 5 or 6 decimals goes up
    edge = 1 + 0.5 * 10.0 ** -np.arange(3, 7)
    train[rows[kinds["edge"]], 0], test[places[kinds["edge"]], 0] = edge - 2e-7, edge + 2e-7
    test[places[kinds["near"]], 2] += 1e-3
    test[places[kinds["mixed"]], 2:] = train[(rows[kinds["mixed"]] + 1) % n, 2:]  # this start, that target
    train[(rows[0] + 1) % n] = train[rows[0]]  # one problem is in the training set twice
    return train, test, {kind: set(places[part].tolist()) for kind, part in kinds.items()}


@exercise
def leaked(answer):
    """Check answer(train [n, 4], test [m, 4]): the indices of the eval problems that are in the training set."""
    rng = np.random.default_rng(1)
    for n, m in ((300, 80), (60, 200)):
        train, test, kinds = _leaky_split(rng, n, m)
        equal = (np.abs(test[:, None] - train) <= 1e-6).all(axis=2)  # [m, n]
        truth = set(np.flatnonzero(equal.any(axis=1)).tolist())
        found = _indices(answer(train.copy(), test.copy()), m)
        if found == truth:
            continue
        missed = truth - found
        if found == set(np.flatnonzero(equal.any(axis=0)).tolist()):
            raise Wrong("these are rows of the training set; asked are the rows of the eval set. The axes are swapped.")
        if found == set(range(m)) - truth:
            raise Wrong("just the other way round: these are the eval problems that are new.")
        if not found:
            raise Wrong(f"you find none, and there are {len(truth)}. Compare each eval problem with every training problem, "
                        "not only with the one in the same row.")
        if kinds["mixed"] <= found:
            raise Wrong(f"{len(kinds['mixed'])} of yours have a known start, but another target. "
                        "It is a leak only if all four numbers are those of one training problem.")
        if kinds["near"] & found:
            raise Wrong("your tolerance is too wide: you report problems that are 0.001 away from a training problem. "
                        "These are new, though near.")
        if found - truth:
            raise Wrong(f"{len(found - truth)} of yours are not in the training set, such as eval problem {min(found - truth)}.")
        if missed == kinds["float32"] | kinds["edge"]:
            raise Wrong(f"you find the {len(found)} exact copies, and miss {len(missed)} that differ in the seventh digit, as "
                        "after a way through float32. Compare with a tolerance, not with ==.")
        if missed <= kinds["edge"] | kinds["float32"]:
            raise Wrong(f"of {len(truth)} copies you miss {len(missed)}. Rounding before comparing cuts neighbours apart "
                        "(1.00049999 and 1.00050001 round to 1.000 and 1.001): compare distances with the tolerance.")
        raise Wrong(f"you find {len(found)} of {len(truth)}; missed is, for one, eval problem {min(missed)}.")
    train, test = rng.uniform(-2.5, 2.5, (2, 50, 4))
    if _indices(answer(train, test), 50):
        raise Wrong("right when there is a leak; but in a split without one you report some.")
    return "the same few lines belong before every evaluation: a leak raises no error, and makes every number look better."


def _indices(given, m):
    """The set of indices that were given, or `Wrong`."""
    array = np.asarray(given)
    if array.dtype == bool and array.shape == (m,):
        raise Wrong(f"that is a mask of {m} trues and falses; asked are the indices of the trues: np.flatnonzero makes them.")
    if isinstance(given, tuple) and len(given) == 1:
        raise Wrong("np.where and np.nonzero give a tuple of arrays; its first element, [0], is what is asked.")
    if array.ndim != 1:
        raise Wrong(f"the indices have shape {list(array.shape)}; they should be one-dimensional.")
    if array.size and array.dtype.kind not in "iu":
        raise Wrong(f"indices are whole numbers, not {array.dtype}.")
    if len(set(array.tolist())) < len(array):
        raise Wrong("some indices come more than once: a problem that is in the training set twice is still one leak.")
    if array.size and not 0 <= array.min() <= array.max() < m:
        raise Wrong(f"an index of {array.max()}, but there are {m} eval problems: are these rows of the training set?")
    return set(array.tolist())


@exercise
def physical_loss(answer):
    """Check answer(scaled [n, N, m], targets [n, N, m], sigma [m]): the mean squared error in physical units."""
    rng = np.random.default_rng(2)
    for m in (2, 1):
        sigma = np.array([0.5, 3.0])[:m]
        targets = sigma * rng.normal(size=(20, 15, m))
        scaled = targets / sigma + 0.3 * rng.normal(size=(20, 15, m)) * np.array([1.0, 2.0])[:m]
        off = scaled * sigma - targets
        right = sum(float(x) ** 2 for x in off.ravel()) / off.size
        loss = as_array(answer(scaled.copy(), targets.copy(), sigma.copy()), (), "the loss")
        if not same(loss, right):
            in_sigmas = ((scaled - targets / sigma) ** 2).mean()
            recognise(loss, [
                (((scaled - targets) ** 2).mean(), "sigma is forgotten: scaled predictions against raw targets."),
                (in_sigmas, "both sides are scaled, so the comparison is fair, but the loss is in units of sigma². "
                            "Multiply the predictions instead of dividing the targets."),
                (((scaled / sigma - targets) ** 2).mean(), "divided by sigma where the scaling has to be undone: multiply."),
                (((scaled * sigma**2 - targets) ** 2).mean(), "sigma twice: predictions are in units of sigma, not sigma²."),
                ((sigma * (scaled - targets / sigma) ** 2).mean(), "sigma must be squared when it multiplies a squared error."),
                (sigma.mean() * in_sigmas, "sigma must be squared when it multiplies a squared error; each control has its own."),
                ((sigma**2).mean() * in_sigmas, "no one factor does it: each control has its own sigma, and its own error. "
                                                "Scale the predictions back before squaring."),
                (sigma.mean() ** 2 * in_sigmas, "no one factor does it: each control has its own sigma. "
                                                "Scale the predictions back before squaring."),
                (np.sqrt(right), "that is the root of the mean square. The loss is the mean square itself."),
                (np.abs(off).mean(), "that is the mean of |error|; square, then take the mean."),
                (off.mean() ** 2, "the mean is squared, so errors of opposite signs cancel. Square first, then take the mean."),
                (right * off.size, "that is the sum; the loss is the mean over problems, steps and controls."),
                (right * off[0].size, f"too large by {off[0].size} = N m: take the mean over steps and controls, too."),
                (right * m, f"too large by {m}: take the mean over the controls, too."),
            ])
            raise Wrong(f"with {m} control{'s' * (m > 1)} your loss is {loss:.4g}, the right one {right:.4g}: "
                        f"{loss / right:.3g} times it.")
        if as_array(answer(targets / sigma, targets.copy(), sigma.copy()), (), "the loss") > 1e-12:
            raise Wrong("a perfect student, which outputs targets / sigma, should have a loss of 0.")
    return "with one sigma the two losses differ by the factor sigma²; with several, no factor converts the one into the other."
