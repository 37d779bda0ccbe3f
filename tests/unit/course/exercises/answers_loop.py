"""Answers to chapter 7's exercises: right ones, and wrong ones with a part of the message."""

import numpy as np
import torch

from trc_lib.course.exercises import loop as checks

# ------------------------------------------------------------------ forgetful

def forgetful(z_H="z_initial", z_L="0 * z_L", cycles="cycles", scaled="model.to_physical(u)"):
    """A forgetful whose start of each cycle is given by expressions."""
    @torch.no_grad()
    def answer(model, x0, xT, cycles_, cycles_of=cycles):
        z_initial = model.encode(x0, xT)
        carry = model.propose(z_initial)
        for _ in range(eval(cycles_of, {"cycles": cycles_})):
            names = {"z_initial": z_initial, "z_H": carry[0], "z_L": carry[1]}
            start = eval(z_H, names), eval(z_L, names), carry[2]
            _, carry = model.recursive_reasoning(x0, xT, 1, start)
        return eval(scaled, {"model": model, "u": carry[2], "z_H": carry[0]})
    return lambda *given: answer(*given)


def wrong_in_one_place(*given):
    controls = forgetful()(*given).clone()
    controls[5, 7] += 0.01
    return controls


@torch.no_grad()
def forgetful_by_hand(model, x0, xT, cycles):
    """Layer by layer, as the chapter does."""
    z_initial = model.encode(x0, xT)
    u = model.initial_generator(z_initial)
    for _ in range(cycles):
        error, _ = model.feedback.inner(x0, xT, model.to_physical(u))
        size = (error.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
        told = torch.cat([error / size, size.log() / 4], dim=1)
        x = z_initial + model.control_embedding(u) + model.error_embedding(told)
        z_H, z_L = z_initial, torch.zeros_like(z_initial)
        for _ in range(model.config.L_cycles):
            z_L = model.block(z_L + z_H + x)
        u = u + size * model.decoder(model.block(z_H + z_L))
    return model.to_physical(u)


# ------------------------------------------------------------------ added

def probe(latent, wanted, other_latent, other_wanted, constant=1.0):
    """R^2 by NumPy."""
    fit, test = (np.c_[each, np.full(len(each), constant)] for each in (latent, other_latent))
    wanted, other_wanted = np.asarray(wanted), np.asarray(other_wanted)
    rest = other_wanted - test @ np.linalg.lstsq(fit, wanted, rcond=None)[0]
    return 1 - (rest**2).sum() / ((other_wanted - other_wanted.mean(axis=0))**2).sum()


def added(trained, untrained, wanted):
    return probe(trained[0], wanted[0], trained[1], wanted[1]) - probe(
        untrained[0], wanted[0], untrained[1], wanted[1])


def centred(trained, untrained, wanted):
    """By means that are taken away in place of a constant."""
    def one(latents):
        z, w = (each[0].double().numpy() for each in (latents, wanted))
        other, right = (each[1].double().numpy() for each in (latents, wanted))
        weights = np.linalg.pinv(z - z.mean(axis=0)) @ (w - w.mean(axis=0))
        rest = right - w.mean(axis=0) - (other - z.mean(axis=0)) @ weights
        return 1 - (rest**2).sum() / ((right - right.mean(axis=0))**2).sum()
    return one(trained) - one(untrained)


def added_in_single_precision(trained, untrained, wanted):
    def one(latents):
        fit, test = (torch.nn.functional.pad(each.float(), (0, 1), value=1.0) for each in latents)
        w, right = (each.float() for each in wanted)
        rest = right - test @ torch.linalg.lstsq(fit, w, driver="gelsd").solution
        return (1 - rest.square().sum() / (right - right.mean(dim=0)).square().sum()).item()
    return one(trained) - one(untrained)


# ------------------------------------------------------------------ fit_look

def _lesson(system, problems, plans):
    """The misses [n, 2] of plans, and what the plans lack [n, 15]."""
    states = system.rollout(problems.initial_states, plans)
    return states[:, -1] - problems.target_states, (problems.controls - plans)[..., 0]


def fit_look(system, problems, plans):
    miss, lacking = _lesson(system, problems, plans)
    return torch.linalg.lstsq(miss, lacking).solution


def fit_look_by_numpy(system, problems, plans):
    miss, lacking = (each.numpy() for each in _lesson(system, problems, plans))
    return np.linalg.lstsq(miss, lacking, rcond=None)[0]


def fit_look_by_normal_equations(system, problems, plans):
    miss, lacking = _lesson(system, problems, plans)
    return torch.linalg.solve(miss.T @ miss, miss.T @ lacking).float().tolist()


def fit_look_the_other_way_round(system, problems, plans):
    miss, lacking = _lesson(system, problems, plans)
    return torch.linalg.lstsq(lacking, miss).solution


def fit_look_without_simulating(system, problems, plans):
    states = torch.linalg.lstsq(problems.initial_states - problems.target_states,
                                (problems.controls - plans)[..., 0])
    return states.solution


def fit_look_with_a_constant(system, problems, plans):
    miss, lacking = _lesson(system, problems, plans)
    padded = torch.nn.functional.pad(miss, (0, 1), value=1.0)
    return torch.linalg.lstsq(padded, lacking).solution[:2]


def fit_look_to(n):
    """A fit to the first ``n`` problems alone."""
    def answer(system, problems, plans):
        miss, lacking = _lesson(system, problems, plans)
        return torch.linalg.lstsq(miss[:n], lacking[:n]).solution
    return answer


# ------------------------------------------------------------------ error_scaled

def error_scaled(size="(e.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()", direction="e / size",
                 logarithm="size.log() / 4", correction="size * d"):
    """An error_scaled whose parts are expressions."""
    def answer(e, d):
        names = {"torch": torch, "e": e, "d": d}
        names["size"] = eval(size, names)
        columns = eval(direction, names), eval(logarithm, names).expand(len(e), 1)
        return torch.cat(columns, dim=1), eval(correction, names)
    return answer


# ------------------------------------------------------------------ never_worse

def never_worse(cycle, cost, u, cycles):
    for _ in range(cycles):
        after = cycle(u)
        u = torch.where((cost(after) < cost(u))[:, None], after, u)
    return u


def never_worse_one_by_one(cycle, cost, u, cycles):
    return torch.cat([never_worse(cycle, cost, row[None], cycles) for row in u])


def never_worse_by_loop(cycle, cost, u, cycles):
    for _ in range(cycles):
        after, before = cycle(u), u.clone()
        for i in range(len(u)):
            if cost(after)[i] < cost(before)[i]:
                u[i] = after[i]
    return u


def taking(where):
    """A never_worse that takes a cycle where ``where``, an expression, says so."""
    def answer(cycle, cost, u, cycles):
        for _ in range(cycles):
            names = {"torch": torch, "u": u, "cost": cost, "after": cycle(u)}
            u = torch.where(eval(where, names), names["after"], u)
        return u
    return answer


def chosen_once(cycle, cost, u, cycles):
    last = u
    for _ in range(cycles):
        last = cycle(last)
    return torch.where((cost(last) < cost(u))[:, None], last, u)


def better_than_first(cycle, cost, u, cycles):
    first = cost(u)
    for _ in range(cycles):
        after = cycle(u)
        u = torch.where((cost(after) < first)[:, None], after, u)
    return u


def cheapest_of_all(cycle, cost, u, cycles):
    plans = [u]
    for _ in range(cycles):
        plans.append(cycle(plans[-1]))
    plans = torch.stack(plans)
    costs = torch.stack([cost(plan) for plan in plans])
    return plans[costs.argmin(dim=0), torch.arange(len(u))]


RIGHT = {
    checks.never_worse: [never_worse, never_worse_by_loop, never_worse_one_by_one,
                         lambda *given: never_worse(*given).numpy()],
    checks.forgetful: [
        forgetful(),
        forgetful(z_L="z_L.new_zeros(z_L.shape)", scaled="model.to_physical(u).double().numpy()"),
        forgetful_by_hand,
        forgetful(scaled="model.to_physical(u)[..., 0].tolist()"),
        forgetful(scaled="model.to_physical(u).tolist()"),
    ],
    checks.added: [
        added,
        centred,
        lambda *given: torch.tensor([added(*given)]),
        lambda *given: np.float32(added(*given)),
    ],
    checks.fit_look: [fit_look, fit_look_by_numpy, fit_look_by_normal_equations],
    checks.error_scaled: [
        error_scaled(),
        error_scaled(size="(e[:, :1] ** 2 + e[:, 1:] ** 2 + 1e-12) ** 0.5", correction="d * size"),
    ],
}

WRONG = {
    checks.never_worse: [
        (lambda cycle, cost, u, cycles: cost(never_worse(cycle, cost, u, cycles)), "not their"),
        (lambda cycle, cost, u, cycles: u, "Nothing is changed"),
        (taking("torch.tensor(True)"), "Every cycle is taken"),
        (taking("cost(after).mean() < cost(u).mean()"), "by the mean cost"),
        (taking("(cost(after) > cost(u))[:, None]"), "more expensive"),
        (cheapest_of_all, "*kept*"), (chosen_once, "once, at the end"),
        (better_than_first, "compare with the first controls"),
        (lambda cycle, cost, u, cycles: never_worse(cycle, cost, u, 1), "That is one cycle; run"),
        (lambda cycle, cost, u, cycles: never_worse(cycle, cost, u, cycles + 1), "too many"),
        (lambda cycle, cost, u, cycles: 2 * u, "should cost"),
    ],
    checks.forgetful: [
        (forgetful(z_H="z_H", z_L="z_L"), "Both latents are carried on"),
        (forgetful(z_H="z_H"), "z_H is still carried on"),
        (forgetful(z_L="z_L"), "z_L is still carried on"),
        (forgetful(scaled="u"), "scaled controls"),
        (forgetful(scaled="z_H"), "not a latent"),
        (forgetful(cycles="1"), "That is one cycle; run"),
        (forgetful(cycles="cycles + 1"), "too many"),
        (wrong_in_one_place, "u[5, 7] is"),
        (forgetful(cycles="0"), "first proposal"),
        (forgetful(cycles="min(cycles, 3)", scaled="model.to_physical(u)"), "below 1e-5"),
        (forgetful(cycles="min(cycles, 8)", scaled="model.to_physical(u)"), "as many cycles"),
        (forgetful(cycles="3"), "as many as you are asked for, here 1"),
        (forgetful(z_H="0 * z_H"), "begin z_H at zero"),
        (forgetful(z_L="z_initial"), "begin it at 0"),
        (forgetful(z_L="z_initial", z_H="0 * z_H"), "exchanged"),
        (forgetful(cycles="cycles - 1"), "too few"),
        (forgetful(z_H="2 * z_initial"), "After 3 cycles with fresh latents u["),
    ],
    checks.added: [
        (added_in_single_precision, "Fit the probe in float64"),
        (lambda trained, untrained, wanted: added(untrained, trained, wanted), "sign is reversed"),
        (lambda t, u, w: probe(t[0], w[0], t[1], w[1]), "of the trained latents alone"),
        (lambda t, u, w: probe(u[0], w[0], u[1], w[1]), "of the untrained latents alone"),
        (lambda *given: added(*(each[:1] * 2 for each in given)), "was fitted on"),
        (lambda *given: added(*(each[::-1] for each in given)), "fit on the second"),
        (lambda t, u, w: probe(t[0], w[0], t[1], w[1], 0) - probe(u[0], w[0], u[1], w[1], 0),
         "no constant term"),
        (lambda t, u, w: probe(t[0], w[0], t[1], w[1]) - probe(u[0], w[0], u[0], w[0]),
         "One of the two probes"),
        (lambda t, u, w: probe(t[0], w[0], t[0], w[0]) - probe(u[0], w[0], u[1], w[1]),
         "One of the two probes"),
        (lambda t, u, w: probe(u[0], w[0], t[1], w[1]), "is of one network"),
        (lambda t, u, w: probe(t[0], w[0], t[1], w[1]) - probe(t[0], w[0], u[1], w[1]),
         "on the latents of one network and measure it on those of the other"),
        (lambda t, u, w: probe(t[0], w[0], t[1], w[1]) - probe(u[0], w[0], t[1], w[1]),
         "is of one network"),
        (lambda t, u, w: probe(t[0], w[0], t[1], w[1]) / probe(u[0], w[0], u[1], w[1]), "a ratio"),
        (lambda t, u, w: max(probe(t[0], w[0], t[1], w[1]), 0)
         - max(probe(u[0], w[0], u[1], w[1]), 0), "do not cut it off"),
        (lambda t, u, w: 0.0, "Training adds"),
        (lambda t, u, w: (0.5, 0.5), "should be one number"),
    ],
    checks.fit_look: [
        (lambda *given: fit_look(*given).T, "its transpose"),
        (fit_look_the_other_way_round, "the fit the other way round"),
        (lambda *given: fit_look(*given)[0], "a matrix [2, 15]"),
        (lambda *given: -fit_look(*given), "reversed"),
        (lambda system, *_: -torch.linalg.pinv(system.controllability_matrix(15)).T, "*this*"),
        (fit_look_without_simulating, "After one correction with your K"),
        (fit_look_to(40), "Use all problems"),
        (fit_look_with_a_constant, "without a constant term"),
        (fit_look_to(100), "to all problems"),
        (fit_look_to(900), "to all problems"),
    ],
    checks.error_scaled: [
        (error_scaled(direction="e"), "still has the size"),
        (error_scaled(direction="torch.nn.functional.normalize(e, dim=1)"),
         "length that the direction is divided by"),
        (error_scaled(size="e.abs()", logarithm="e.abs()[:, :1].log() / 4", correction="d"),
         "not for each component"),
        (error_scaled(size="(e.square().sum() + 1e-12).sqrt()",
                      logarithm="size.log()[None, None] / 4"), "whole batch"),
        (error_scaled(size="(e.square().sum(dim=0) + 1e-12).sqrt()", logarithm="size[:1].log() / 4",
                      correction="size[:1] * d"), "wrong axis"),
        (error_scaled(size="e.square().sum(dim=1, keepdim=True) + 1e-12"), "root is forgotten"),
        (error_scaled(size="(e.square().mean(dim=1, keepdim=True) + 1e-12).sqrt()"),
         "mean of the two squares"),
        (error_scaled(size="e.abs().sum(dim=1, keepdim=True)"), "absolute values"),
        (error_scaled(direction="-e / size"), "other way"),
        (error_scaled(direction="(e / size).flip(1)"), "first two columns"),
        (error_scaled(logarithm="size.log10() / 4"), "base 10"),
        (error_scaled(logarithm="size.log2() / 4"), "base 2"),
        (error_scaled(logarithm="size.log()"), "divided by 4"),
        (error_scaled(logarithm="(size / 4).log()"), "divide the logarithm itself"),
        (error_scaled(logarithm="size.log1p() / 4"), "log1p"),
        (error_scaled(logarithm="size"), "*logarithm*"),
        (error_scaled(logarithm="size.log() / 3"), "third column"),
        (error_scaled(logarithm="(size + 1e-5).log() / 4"), "-0.8 in row 0, not -0.7999"),
        (error_scaled(logarithm="(size + 1e-6).log() / 4"), "-3.454 in row 1, not -3.281"),
        (error_scaled(correction="d"), "multiply it by the size"),
        (error_scaled(correction="d / size"), "do not divide"),
        (error_scaled(correction="d + size"), "multiply the two"),
        (error_scaled(correction="2 * size * d"), "size times"),
        (error_scaled(correction="(e.square().sum(1, True) + 1e-30).sqrt() * d"),
         "*under* its root"),
        (error_scaled(correction="size * d.detach()"), "never be trained"),
        (error_scaled(size="e.norm(dim=1, keepdim=True)"), "NaN or infinity"),
        (error_scaled(size="e.square().sum(dim=1, keepdim=True).sqrt() + 1e-12"),
         "gradient is NaN"),
        (error_scaled(direction="torch.where(size > 1e-5, e / e.norm(dim=1, keepdim=True), 0)"),
         "gradient is NaN"),
        (error_scaled(size="e.norm(dim=1, keepdim=True) + 1e-12"), "outside the root"),
        (error_scaled(size="e.norm(dim=1, keepdim=True) + 1e-6"), "outside the root"),
        (error_scaled(size="(e.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()"),
         "1e-10 under the root"),
        (error_scaled(size="(e.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()"),
         "1e-08 under"),
        (error_scaled(size="e.norm(dim=1, keepdim=True).clamp(min=1e-6)"), "cut the size off"),
        (error_scaled(size="(e.square().sum(dim=1, keepdim=True) + 1e-12).sqrt().detach()"),
         "size is detached"),
        (error_scaled(correction="size.detach() * d"), "in the correction the size is detached"),
        (lambda e, d: error_scaled()(e.detach(), d), "detach, item or numpy"),
        (error_scaled(logarithm="torch.where(e.abs().sum(dim=1)[:, None] > 0, size.log() / 4, 0)"),
         "separate case"),
        (lambda e, d: tuple(value.detach().numpy() for value in error_scaled()(e, d)),
         "Return tensors"),
        (lambda e, d: (error_scaled()(e, d)[0][:, [2, 0, 1]], error_scaled()(e, d)[1]),
         "logarithm comes last"),
        (lambda e, d: (error_scaled()(e, d)[0][:, :2], error_scaled()(e, d)[1]), "two columns"),
        (lambda e, d: error_scaled()(e, d)[::-1], "swapped"),
        (lambda e, d: error_scaled()(e, d)[0], "two things"),
    ],
}
