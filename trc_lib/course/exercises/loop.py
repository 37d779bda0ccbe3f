"""Checks of chapter 7: latents begun anew, cycles that make nothing worse, probes, a matrix, zero.

The first four measure what an answer makes of the networks that the course ships.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F

from trc_lib.course.exercises.check_result import (
    Wrong,
    apart,
    as_array,
    as_number,
    exercise,
    judge,
    recognise,
    refuse,
    same,
    several,
)
from trc_lib.course.workspace import pretrained
from trc_lib.data import generate_dataset
from trc_lib.evaluation import final_error
from trc_lib.model import TinyRecursiveControl

CLOSE = 1e-5  # the tolerance where float32 is accepted
CYCLES = 20


@functools.lru_cache(maxsize=1)
def _unseen():
    return generate_dataset(500, seed=3_000_001)


def _ends(controls, problems):
    """The mean final error of controls ``[n, 15, 1]`` or ``[n, 15]``."""
    controls = torch.as_tensor(controls).double().reshape(problems.controls.shape)
    return final_error(problems.system, problems.initial_states, problems.target_states,
                       controls).mean().item()


# ------------------------------------------------------------------ latents begun anew

@torch.no_grad()
def _run(model, x0, xT, cycles, z_H_anew, z_L_anew, zero=False, alike=False):
    """Scaled controls after some cycles, each of which begins with the latents that are named.

    ``zero``: anew is z_H = 0, and not z_initial; ``alike``: anew is z_L = z_initial, and not 0.
    """
    z_initial = model.encode(x0, xT)
    z_H, z_L, controls = model.propose(z_initial)
    for _ in range(cycles):
        anew = torch.zeros_like(z_initial) if zero else z_initial
        start = (anew if z_H_anew else z_H,
                 (z_initial if alike else torch.zeros_like(z_L)) if z_L_anew else z_L, controls)
        _, (z_H, z_L, controls) = model.recursive_reasoning(x0, xT, 1, start)
    return controls


@exercise
def forgetful(answer):
    """Check ``answer(model, x0, xT, cycles)``: controls of cycles that begin with fresh latents."""
    model, problems = pretrained("laboratory/proportional_root"), _unseen()
    x0, xT = problems.initial_states.float(), problems.target_states.float()
    scale = float(model.control_scale)
    for n, cycles in ((40, 3), (40, 1), (len(x0), CYCLES)):
        given = answer(model, x0[:n].clone(), xT[:n].clone(), cycles)
        shape = (n, 15) if np.shape(given) == (n, 15) else (n, 15, 1)
        given = as_array(given, shape, "Your answer",
                         {(n, 128): "Return the controls, not a latent."}).reshape(n, 15)
        if cycles == CYCLES:
            continue
        right = scale * _run(model, x0[:n], xT[:n], cycles, True, True).numpy()
        worst = np.unravel_index(np.abs(given - right).argmax(), right.shape)
        judge(given, right, [
            (right / scale, "These are scaled controls; model.to_physical gives m/s²."),
            (scale * _run(model, x0[:n], xT[:n], cycles, False, False).numpy(),
             "Both latents are carried on, as in training. Begin each cycle with z_H = z_initial "
             "and z_L = 0."),
            (scale * _run(model, x0[:n], xT[:n], cycles, False, True).numpy(),
             "z_H is still carried on. Begin each cycle with z_H = z_initial, too."),
            (scale * _run(model, x0[:n], xT[:n], cycles, True, False).numpy(),
             "z_L is still carried on. Begin each cycle with z_L = 0, too."),
            (scale * _run(model, x0[:n], xT[:n], 1, True, True).numpy(),
             f"That is one cycle; run {cycles}, each from the controls of the one before."),
            (scale * _run(model, x0[:n], xT[:n], 0, True, True).numpy(),
             "That is the first proposal: the controls are to be carried on, latents are not."),
            (scale * _run(model, x0[:n], xT[:n], cycles + 1, True, True).numpy(),
             "That is one cycle too many."),
            (scale * _run(model, x0[:n], xT[:n], cycles - 1, True, True).numpy(),
             "That is one cycle too few."),
            (scale * _run(model, x0[:n], xT[:n], 3, True, True).numpy(),
             f"That is three cycles; run as many as you are asked for, here {cycles}."),
            (scale * _run(model, x0[:n], xT[:n], CYCLES, True, True).numpy(),
             f"Those are {CYCLES} cycles; run as many as you are asked for, here {cycles}."),
            (scale * _run(model, x0[:n], xT[:n], cycles, True, True, zero=True).numpy(),
             "You begin z_H at zero; the first cycle begins with z_H = z_initial."),
            (scale * _run(model, x0[:n], xT[:n], cycles, True, True, alike=True).numpy(),
             "You begin z_L at z_initial; begin it at 0."),
            (scale * _run(model, x0[:n], xT[:n], cycles, True, True, True, True).numpy(),
             "The two are exchanged: z_H begins at z_initial, and z_L at 0."),
        ], f"After {cycles} cycles with fresh latents u[{worst[0]}, {worst[1]}] is "
           + "{} m/s²; you say {}. (The first controls are those of the initial generator, and "
             "every cycle is given the problem's z_initial.)".format(
               *apart(right[worst], given[worst])), CLOSE)
    mine, carried = _ends(given, problems), _ends(
        model.predict(x0, xT, CYCLES)["controls"].detach(), problems)
    refuse((not mine < 1e-5, f"After {CYCLES} cycles your controls end {mine:.1e} from the target "
                             "on average; with fresh latents they end below 1e-5. Run as many "
                             "cycles as you are asked for."))
    return (f"after {CYCLES} cycles with fresh latents the mean final error is about {mine:.0e}; "
            f"with latents carried on it is more than {'100' if carried > 100 * mine else '10'} "
            "times as large. What makes this network run away is in its latents.")


# ------------------------------------------------------------------ cycles that make nothing worse

GOAL = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)  # the cheapest controls of all problems


def _cost(u):
    return (u - GOAL).square().sum(dim=1)


def _cycle(u):
    """Far from the goal it helps; near to it, it makes the controls worse, for the time being."""
    off = u - GOAL
    return GOAL + torch.where(off.norm(dim=1, keepdim=True) < 1, 3.0 * off, 0.2 * off)


def _kept(u, cycles, better, cycle=_cycle, cost=_cost):
    """What ``cycles`` cycles end with if those that are ``better`` are taken, and gone on from."""
    for _ in range(cycles):
        after = cycle(u)
        u = torch.where(better(cost(u), cost(after))[:, None], after, u)
    return u


def _better_than_first(u, cycles):
    """What ``cycles`` cycles end with if each is taken that costs less than the first controls."""
    first = _cost(u)
    for _ in range(cycles):
        after = _cycle(u)
        u = torch.where((_cost(after) < first)[:, None], after, u)
    return u


def _chosen_once(u, cycles):
    """The cheaper one of the first controls and of those after a run that takes every cycle."""
    last = u
    for _ in range(cycles):
        last = _cycle(last)
    return torch.where((_cost(last) < _cost(u))[:, None], last, u)


def _cheapest_of_all(u, cycles):
    """The cheapest plan of a run that takes every cycle."""
    best = u
    for _ in range(cycles):
        u = _cycle(u)
        best = torch.where((_cost(u) < _cost(best))[:, None], u, best)
    return best


@exercise
def never_worse(answer):
    """Check ``answer(cycle, cost, u, cycles)``: each problem keeps the cheaper controls."""
    start = torch.randn(9, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    sizes = torch.tensor([0.3, 0.5, 0.8, 0.95, 1.5, 2.0, 3.0, 4.9, 6.0], dtype=torch.float64)
    start = GOAL + sizes[:, None] * start / start.norm(dim=1, keepdim=True)

    def always(before, after):
        return torch.ones_like(before, dtype=torch.bool)

    def on_average(before, after):
        return (after.mean() < before.mean()).expand(len(before))

    for cycles in (2, 4, 1):
        right = _kept(start, cycles, lambda before, after: after < before)
        given = as_array(answer(_cycle, _cost, start.clone(), cycles), tuple(start.shape),
                         "Your answer", {(len(start),): "Return the controls, not their costs."})
        judge(given, right.numpy(), [
            (_kept(start, cycles, always), "Every cycle is taken, also where it costs more."),
            (_kept(start, cycles, on_average),
             "All problems keep or take the new controls together, by the mean cost. Each by its "
             "own: torch.where."),
            (_kept(start, cycles, lambda before, after: after > before),
             "You keep the more expensive of the two."),
            (start, "Nothing is changed: where a cycle costs less, take its controls, "
             "whatever it does to the other problems."),
            (_kept(start, 1, lambda before, after: after < before),
             f"That is one cycle; run {cycles}, each from what was kept before it."),
            (_kept(start, cycles - 1, lambda before, after: after < before),
             "That is one cycle too few."),
            (_kept(start, cycles + 1, lambda before, after: after < before),
             "That is one cycle too many."),
            (_cheapest_of_all(start, cycles),
             "You run all cycles on, and pick the cheapest plan at the end. Go on from the plan "
             "that was *kept*: a cycle is not to start from controls that are worse."),
            (_chosen_once(start, cycles), "You choose once, at the end: choose after each cycle."),
            (_better_than_first(start, cycles),
             "You compare with the first controls; compare with those that were kept last."),
        ], f"After {cycles} cycles the controls should cost "
           f"{_cost(right).sum():.3f} together; yours cost "
           f"{_cost(torch.tensor(given)).sum():.3f}.", CLOSE)
    return ("no cycle can make a plan worse now, however deep it runs. "
            + _on_the_network())


def _on_the_network():
    """What the rule does for the error-scaled network, each of whose cycles forgets its latents."""
    model, problems = pretrained("laboratory/proportional_root"), _unseen()
    x0, xT = problems.initial_states[:100].float(), problems.target_states[:100].float()

    @torch.no_grad()
    def cycle(controls):
        z = model.encode(x0, xT)
        return model.recursive_reasoning(x0, xT, 1, (z, torch.zeros_like(z), controls))[1][2]

    def cost(controls):
        ends = model.system.rollout_unchecked(x0, model.to_physical(controls))[:, -1]
        return (ends - xT).norm(dim=1)

    with torch.no_grad():
        first = model.propose(model.encode(x0, xT))[2]
        kept = _kept(first, CYCLES, lambda before, after: after < before, cycle, cost)
        free = first
        for _ in range(CYCLES):
            free = cycle(free)
    kept, free = cost(kept).mean().item(), cost(free).mean().item()
    return (f"On the network of this chapter, with fresh latents, {CYCLES} cycles with this rule "
            f"end {'more than ten times farther from' if kept > 10 * free else 'nearer to'} the "
            "target, on average, than without it: a problem that a cycle would have made worse "
            "for a while now stands still for ever.")


# ------------------------------------------------------------------ what training added

def _probe(fit, test, wanted, other, constant=1.0):
    """R^2 of a linear map that is fitted on one pair and measured on the other."""
    fit, test = (F.pad(each.double(), (0, 1), value=constant) for each in (fit, test))
    rest = other - test @ torch.linalg.lstsq(fit, wanted.double(), driver="gelsd").solution
    return 1 - (rest.square().sum() / (other - other.mean(dim=0)).square().sum()).item()


def _by_component(fit, test, wanted, other):
    """The mean R^2 of the components, each by itself."""
    wanted, other = (each.reshape(len(each), -1) for each in (wanted, other))
    return np.mean([_probe(fit, test, *columns)
                    for columns in zip(wanted.split(1, dim=1), other.split(1, dim=1))])


@functools.lru_cache(maxsize=1)
def _latents():
    """z_H after the third cycle of a trained and of an untrained network, and four quantities: each
    for 4,000 problems to fit on, and 500 to measure on."""
    net, sets = pretrained("laboratory/recursive"), (generate_dataset(4000, 5), _unseen())
    untrained = TinyRecursiveControl.create_two_level("small", seed=0)
    untrained.set_scaling(sets[0])
    latents = [[model.trace(each.initial_states.float(), each.target_states.float()).z_H[-1]
                for each in sets] for model in (net, untrained)]

    def own_error(each):
        plans = net.solve(each.initial_states, each.target_states)
        return each.system.rollout(each.initial_states, plans)[:, -1] - each.target_states
    quantities = {
        "the start": lambda each: each.initial_states,
        "the least energy": lambda each: each.controls.square().sum(dim=1),
        "the product of the positions": lambda each: (each.initial_states
                                                      * each.target_states)[:, :1],
        "the network's own final error": own_error}
    return latents, {name: [of(each) for each in sets] for name, of in quantities.items()}


ONE_NETWORK = ("You fit a probe on the latents of one network and measure it on those of the "
               "other; each probe is of one network.")


def _mistakes_of_added(mine, theirs, wanted, ours, others):
    return [
        (max(ours, 0.0) - max(others, 0.0), "An R² below 0 counts as it is: do not cut it off."),
        (others - ours,
         "The sign is reversed: trained minus untrained, also where that is negative."),
        (ours, "That is R² of the trained latents alone; subtract that of the untrained ones."),
        (others, "That is R² of the untrained latents alone."),
        (_probe(mine[0], mine[0], wanted[0], wanted[0])
         - _probe(theirs[0], theirs[0], wanted[0], wanted[0]),
         "You measure on the problems that the probe was fitted on."),
        *((each, "One of the two probes is measured on the problems that it was fitted on.")
          for each in (ours - _probe(theirs[0], theirs[0], wanted[0], wanted[0]),
                       _probe(mine[0], mine[0], wanted[0], wanted[0]) - others)),
        (_by_component(*mine, *wanted) - _by_component(*theirs, *wanted),
         "You take the R² of each component, and their mean; `probe` adds the squares of all "
         "components before it divides."),
        (_probe(theirs[0], mine[1], *wanted), ONE_NETWORK),
        (ours - _probe(mine[0], theirs[1], *wanted), ONE_NETWORK),
        (ours - _probe(theirs[0], mine[1], *wanted), ONE_NETWORK),
        (ours / others, "That is a ratio: subtract the one from the other."),
        (_probe(*mine[::-1], *wanted[::-1]) - _probe(*theirs[::-1], *wanted[::-1]),
         "You fit on the second of each pair, and measure on the first."),
        (_probe(*mine, *wanted, constant=0.0) - _probe(*theirs, *wanted, constant=0.0),
         "Your probe has no constant term; `probe` of the chapter has one."),
    ]


@exercise
def added(answer):
    """Check ``answer(trained, untrained, wanted)``: the R^2 that training adds to a probe."""
    r = np.random.default_rng(7)
    found = {}
    (trained, untrained), quantities = _latents()
    names = iter(quantities)

    def drawn(n, k):
        return torch.tensor(r.normal(size=(n, k)))
    small = [drawn(60, 4), drawn(40, 4)], [drawn(60, 4), drawn(40, 4)]
    known = [one[:, :2] + 0.4 * drawn(len(one), 2) + other[:, :2] / 2 + 3
             for one, other in zip(*small)]
    below = [one[:, :2] + 0.4 * drawn(len(one), 2) for one in small[0]]  # not in the others
    for mine, theirs, wanted in ((*small, known), (small[1], small[0], known), (*small, below),
                                 *((trained, untrained, each) for each in quantities.values())):
        given = as_number(answer(*(tuple(each) for each in (mine, theirs, wanted))),
                          "the R² that training adds")
        ours, others = _probe(*mine, *wanted), _probe(*theirs, *wanted)
        if mine is trained:
            found[next(names)] = (ours - others, ours, others)
            mistakes = []  # several of them give the same number with the networks
        else:
            mistakes = _mistakes_of_added(mine, theirs, wanted, ours, others)
        judge(given, ours - others, mistakes,
              "Training adds {}; you say {}.".format(*apart(ours - others, given))
              + " (Fit the probe in float64, as `probe` does.)" * (mine is trained), 1e-4)
    most = max(found, key=found.get)
    others = max(value for name, (value, *_) in found.items() if name != most)
    less = "less" if others < 0.2 else "more"
    _, after, before = found[most]
    return (f"training adds most for {most}: R² is {after:.2g} after training, and {before:.2g} "
            f"before it. For the other three it is higher by {less} than 0.2. Of these four it "
            "is the only one that the network itself makes: the others are given by the problem.")


# ------------------------------------------------------------------ a fitted matrix

@exercise
def fit_look(answer):
    """Check ``answer(system, problems, plans)``: the matrix K of a correction, ``[2, 15]``."""
    model, lesson, unseen = pretrained("laboratory/recursive"), generate_dataset(1000, 5), _unseen()
    C = lesson.system.controllability_matrix(15)
    exact = -torch.linalg.pinv(C).T                                            # [2, 15]
    plans, other = (model.solve(each.initial_states, each.target_states)
                    for each in (lesson, unseen))

    def missed(problems, controls):
        states = problems.system.rollout(problems.initial_states, controls)
        return states[:, -1] - problems.target_states

    def after(K):
        """Mean final error, and mean squared distance to the optimum, after one correction."""
        corrected = other + (missed(unseen, other) @ torch.as_tensor(K))[..., None]
        return _ends(corrected, unseen), (corrected - unseen.controls).square().mean().item()

    lacking = (lesson.controls - plans)[..., 0]
    right = torch.linalg.lstsq(missed(lesson, plans), lacking).solution
    K = as_array(answer(lesson.system, lesson, plans.clone()), (2, 15), "K", {
        (15, 2): "K should be [2, 15]: final errors [n, 2] times K give corrections [n, 15]. "
                 "Yours is its transpose, or the fit the other way round: lstsq(a, b) brings "
                 "a @ K nearest to b, and a is the final error.",
        (15,): "Return a matrix [2, 15], one row for each component of the final error."})
    (ends, excess), (_, of_exact) = after(K), after(exact)
    if same(K, exact, CLOSE):
        raise Wrong("That is -C⁺: it makes every plan arrive. It does not use what the plans of "
                    "*this* network lack beside arriving. Fit K to the data.")
    recognise(K, [(-right, "The sign is reversed: fit u* - u, and the final error is x_N - xT.")],
              1e-3)
    before = _ends(other, unseen)
    refuse((ends > 1e-5, f"After one correction with your K, unseen plans end {ends:.1e} from "
                         f"their targets on average (before: {before:.1e}). Fit, by least squares, "
                         "final error times K to what the plans lack, u* - u."),
           (excess > 0.995 * of_exact, "Your K makes the plans arrive, but their control MSE is "
            "{}, and -C⁺ alone gives {}. Use all problems for the fit."
            .format(*apart(excess, of_exact))),
           (not same(K, right, CLOSE), "Your K makes the plans arrive, but another one is nearer "
                                       "to what the plans lack: fit it by least squares, to all "
                                       "problems, and without a constant term."))
    return (f"one correction with your K brings the mean final error from {before:.3f} to below "
            "1e-5 on unseen problems (exactly, but for rounding). K is not -C⁺: the part of it "
            "that decides where the cart ends is the same, and the rest saves a little energy.")


# ----------------------------------------------------------------- an error-scaled correction

TINY = 1e-12


def _size(e):
    """The size of each error, [n, 1]."""
    return np.sqrt((e**2).sum(axis=1, keepdims=True) + TINY)


def _parts(e, decoded, size=_size):
    """direction [n, 2], log-size [n, 1] and correction [n, N]."""
    s = size(e)
    return e / s, np.log(s) / 4, s * decoded


@exercise
def error_scaled(answer):
    """Check ``answer(error, decoded)``: what is told [n, 3] and the correction [n, N]."""
    r = np.random.default_rng(2)
    ordinary = r.normal(size=(6, 2)) * 10.0 ** r.uniform(-2, 0, size=(6, 1))
    tiny = r.normal(size=(5, 2)) * 10.0 ** r.uniform(-7, -5, size=(5, 1))
    zero = np.array([[0.3, -0.4], [0.0, 0.0], [-2e-3, 1e-3], [0.0, 0.0]])
    for e, N, check in ((ordinary, 15, _check_values), (r.normal(size=(4, 2)), 5, _check_values),
                        (zero, 7, _check_gradient), (tiny, 4, _check_values),
                        (zero, 8, _check_at_zero)):
        n, d = len(e), r.normal(size=(len(e), N))
        error, decoded = (torch.tensor(each, requires_grad=True) for each in (e, d))
        given = several(answer(error, decoded.clone()), "what is told", "the correction")
        refuse((not all(torch.is_tensor(value) for value in given),
                "Return tensors: training sends its gradient back through both of them."))
        refuse((e is zero and not all(torch.isfinite(value).all() for value in given),
                "Right, but not where the error is exactly zero: there it gives NaN or infinity "
                "(0 / 0, log 0). Add 1e-12 *under* the root."))
        as_array(given[0], (n, 3), "What is told", {
            (n, N): "The two are swapped: first what is told, then the correction.",
            (n, 2): "What is told has two columns; the third is log(size) / 4.",
        })
        as_array(given[1], (n, N), "The correction")
        check(given, error, d)
        back = given[1].requires_grad and torch.autograd.grad(given[1].sum(), decoded,
                                                              allow_unused=True)[0]
        refuse((not torch.is_tensor(back), "The values are right, but no gradient flows back to "
                "what the decoder says: it would never be trained. Detach nothing here."))
    return ("at zero error the correction is a millionth of what the decoder says: controls that "
            "arrive are as good as unchanged.")


def _check_at_zero(given, error, d):
    told, correction, e = (value.detach().numpy() for value in (*given, error))
    direction, log_size, _ = _parts(e, d)
    if not (same(told, np.hstack([direction, log_size]), CLOSE)
            and same(correction / _size(e), d, CLOSE)):
        raise Wrong("Where the error is exactly zero, the size is the root of 1e-12, the direction "
                    f"0, and the third column {math.log(1e-6) / 4:.2f}; your answer treats it as a "
                    "separate case.")


def _check_values(given, error, d):
    told, correction, e = (value.detach().numpy() for value in (*given, error))
    direction, log_size, _ = _parts(e, d)
    size, norm, mine = _size(e), np.sqrt((e**2).sum(axis=1, keepdims=True)), told[:, :2]
    if not same(mine, direction, CLOSE):
        components = "the size is the root of the sum of squares."
        recognise(mine, [(e / wrong, message) for wrong, message in (
            (np.ones_like(norm), "The direction still has the size of the error: divide by it."),
            (np.abs(e), "One size a problem, not for each component: the length of its row."),
            (np.sqrt((e**2).sum()),
             "That is one size for the whole batch: sum over the components alone."),
            (np.sqrt((e**2).sum(axis=0)),
             "The wrong axis: sum over the two components of each problem, dim 1."),
            (norm**2, "The root is forgotten: the size is a length, not its square."),
            (norm / math.sqrt(2), f"You take the mean of the two squares; {components}"),
            (np.abs(e).sum(axis=1, keepdims=True), f"You add the absolute values; {components}"),
            (np.abs(e).max(axis=1, keepdims=True), f"That is the larger component; {components}"),
            (1 / norm, "You multiply by the size; the direction is the error divided by it."),
            (np.maximum(norm, 1e-6), "You cut the size off from below, so that it has no gradient "
                                     "for small errors; 1e-12 under the root is smooth."),
        )], CLOSE)
        _explain_tiny(mine, e, norm)
        recognise(told, [
            (np.hstack([log_size, direction]), "The logarithm comes last, the direction first."),
            (np.hstack([-direction, told[:, 2:]]),
             "The direction points the other way: it is error / size, without a minus."),
        ], CLOSE)
        raise Wrong("The first two columns should be the error over its size, "
                    f"{np.round(direction[0], 3).tolist()} in the first row; yours are "
                    f"{np.round(mine[0], 3).tolist()}.")
    judge(told[:, 2:], log_size, [
        (np.log10(size) / 4, "The third column has the natural logarithm; yours is to base 10."),
        (np.log2(size) / 4, "The third column has the natural logarithm; yours is to base 2."),
        (np.log1p(size) / 4,
         "log1p is log(1 + size), which is nearly 0 for small errors. Take the plain logarithm."),
        (np.log(size), "The logarithm is divided by 4, to be no larger than the latents."),
        (np.log(size / 4), "That is the logarithm of size / 4: divide the logarithm itself by 4."),
        (np.log(size) / 2, "That is the logarithm of the *squared* size: its root is forgotten."),
        (-log_size, "The sign of the logarithm: a small size has a negative one."),
        (size, size / 4, "The third column is the *logarithm* of the size: it tells 0.001 from 0."),
    ], _third_column(told, log_size), CLOSE)
    judge(correction / size, d, [
        (d / size, "The correction is still the decoder's output: multiply it by the size."),
        (d / size**2, "Multiply by the size, do not divide: small errors need small corrections."),
        (1 + d / size, "You add the size to the decoder's output; multiply the two."),
        (size * d, "You multiply by the squared size; multiply by the size."),
        (log_size / size * d, "You multiply by the logarithm; multiply by the size."),
        (-d, "The sign: the correction is plus the size times the decoder's output."),
        (norm / size * d, "The size in the correction lacks the 1e-12 *under* its root: it matters "
                          "for the smallest errors."),
    ], "The correction should be the size times the decoder's output.", CLOSE)


def _third_column(told, log_size):
    """What is wrong with a third column: its worst row."""
    row = np.abs(told[:, 2] - log_size[:, 0]).argmax()
    right, mine = apart(log_size[row, 0], told[row, 2])
    return f"The third column should be log(size) / 4: {right} in row {row}, not {mine}."


def _explain_tiny(direction, e, norm):
    """Raise `Wrong` if the direction is e over a size with another small number than 1e-12."""
    lengths = np.sqrt((direction**2).sum(axis=1, keepdims=True))
    if (lengths == 0).any() or not same(direction / lengths, e / norm, CLOSE):
        return
    size = norm / lengths
    for added, where in ((size - norm, "outside the root"), (size**2 - norm**2, "under the root")):
        if added.min() > 0 and np.ptp(added) < 1e-3 * added.max():
            raise Wrong(f"You add {added.mean():.1g} {where}; add 1e-12 *under* it.")
    if np.allclose(size, norm, rtol=1e-9):
        raise Wrong("A size, or the length that the direction is divided by, has no 1e-12 *under* "
                    "its root: it matters for the smallest errors.")


def _differences(function, e):
    """The gradients of two functionals of e by finite differences, [2, n, 2]."""
    slopes = np.zeros((2, *e.shape))
    for i, j in np.ndindex(e.shape):
        step = np.zeros_like(e)
        step[i, j] = 1e-4 * _size(e)[i, 0]
        slopes[:, i, j] = (function(e + step) - function(e - step)) / (2 * step[i, j])
    return slopes


def _check_gradient(given, error, d):
    r, e = np.random.default_rng(4), error.detach().numpy()
    weights = [r.normal(size=tuple(value.shape)) for value in given]
    slopes = []
    for value, w in zip(given, weights):
        slope = None
        if value.requires_grad:
            slope = torch.autograd.grad((value * torch.tensor(w)).sum(), error, allow_unused=True,
                                        retain_graph=True)[0]
        slopes.append(np.zeros_like(e) if slope is None else slope.numpy())
    if not np.isfinite(slopes).all():
        raise Wrong("Right, but where the error is zero the gradient is NaN: a root has no slope "
                    "there. Add 1e-12 *under* it.")

    def weighed(moved, size=_size):
        direction, log_size, correction = _parts(moved, d, size)
        values = np.hstack([direction, log_size]), correction
        return np.array([(value * w).sum() for value, w in zip(values, weights)])

    somewhere = np.abs(e).sum(axis=1) > 0

    def close(slope, right):  # row by row, whose sizes differ by powers of ten
        return all(np.allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
                   for a, b in zip(slope[somewhere], right[somewhere]))

    free = _differences(weighed, e)
    held = _differences(lambda moved: weighed(moved, lambda _: _size(e)), e)
    for slope, right, without, what in zip(slopes, free, held, ("what is told", "the correction")):
        if close(slope, right):
            continue
        if close(slope, without):
            raise Wrong(f"The values are right, but in {what} the size is detached: its gradient "
                        "is part of the answer. Detach nothing here.")
        lengths = (given[0].detach().numpy()[somewhere, :2]**2).sum(axis=1)
        added = (e[somewhere]**2).sum(axis=1) * (1 / lengths - 1)
        refuse((added.min() > 10 * TINY, f"You add {added.mean():.1g} under the root; add 1e-12 "
                                         "*under* it."))
        told, (_, log_size, _) = given[0].detach().numpy(), _parts(e, d)
        refuse((not same(told[:, 2:], log_size, CLOSE), _third_column(told, log_size)))
        raise Wrong(f"The values are right; the gradient of {what} is not (detach, item or numpy "
                    "on the way?).")
