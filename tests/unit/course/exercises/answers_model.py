"""Answers to chapter 3's exercises: right ones, and wrong ones with a part of the message."""

import copy

import numpy as np
import torch
from torch import nn

from trc_lib.course.exercises import model as checks
from trc_lib.systems import DoubleIntegrator


def final_states(model, x0, xT):
    """x_N - x_T of every answer, [H+1, batch, 2]."""
    with torch.no_grad():
        answers = model(x0, xT)["cycle_controls"].double()
    starts = x0.expand(len(answers), -1, -1)
    return DoubleIntegrator().rollout(starts, answers)[:, :, -1] - xT


def wires(say="controls", cuts=((), ("error",), ("control",)), own=copy.deepcopy, form=np.stack,
          measure=lambda off: off.norm(dim=-1).mean(dim=-1), bias=False):
    """A cut_a_wire that is given what it cuts in each row, and how it measures."""
    def answer(model, x0, xT):
        rows = []
        for cut in cuts:
            network = own(model)
            for name in cut:
                embedding = getattr(network, f"{name}_embedding")
                for parameter in embedding.parameters() if bias else (embedding.weight,):
                    nn.init.zeros_(parameter)
            rows.append(measure(final_states(network, x0, xT)))
        return say, form(rows)
    return answer


def dead_rows(module, loss):
    module.zero_grad()
    loss(module).backward()
    dead = {}
    for name, p in module.named_parameters():
        gradient = torch.zeros_like(p) if p.grad is None else p.grad
        rows = [i for i, row in enumerate(gradient) if not row.any()]
        if rows:
            dead[name] = rows
    return dead


def audit(dead=lambda row: not row.any(), none=True, clear=True, form=list, skip=False):
    """A dead_rows with another test of a row's gradient; ``none``: what a missing one counts."""
    def answer(module, loss):
        if clear:
            module.zero_grad()
        loss(module).backward()
        found = {}
        for name, p in module.named_parameters():
            if p.grad is None:
                rows = list(range(len(p))) if none else []
            else:
                rows = [i for i in range(len(p)) if dead(p.grad[i])]
            if not skip or len(rows) == len(p):
                found[name] = form(rows)
        return found
    return answer


def fails_on_none(module, loss):
    module.zero_grad()
    loss(module).backward()
    return {name: [i for i, row in enumerate(p.grad) if not row.any()]
            for name, p in module.named_parameters()}


def renamed(rename):
    return lambda module, loss: {rename(name): rows
                                 for name, rows in dead_rows(module, loss).items()}


def weights(part):
    return sum(m.weight.numel() for m in part.modules() if isinstance(m, nn.Linear))


def multiply_adds(model, H_cycles, L_cycles):
    once = model.encoder, model.initial_generator
    cycle = model.control_embedding, model.error_embedding, model.decoder
    block = (L_cycles + 1) * weights(model.block)
    return sum(map(weights, once)) + H_cycles * (sum(map(weights, cycle)) + block)


def work(first=1, embeddings=None, error=None, decoder=None, block=None, size=weights):
    """A multiply_adds in which parts run as often as the expressions of H and L say."""
    def answer(model, H, L):
        def calls(n):
            return H if n is None else eval(str(n), {"H": H, "L": L})
        return (calls(first) * (size(model.encoder) + size(model.initial_generator))
                + calls(embeddings) * size(model.control_embedding)
                + calls(error or embeddings) * size(model.error_embedding)
                + calls(decoder) * size(model.decoder)
                + calls(block or "H * (L + 1)") * size(model.block))
    return answer


RIGHT = {
    checks.cut_a_wire: [
        wires(),
        wires("error", form=lambda rows: [row.tolist() for row in rows]),
        wires("Controls", form=lambda rows: torch.stack(rows).float()),
        wires(bias=True),
    ],
    checks.dead_rows: [dead_rows, audit(), audit(form=tuple), audit(form=set), audit(form=np.array),
                       audit(form=torch.tensor)],
    checks.multiply_adds: [multiply_adds, work(), lambda *given: [multiply_adds(*given)],
                           lambda *given: torch.tensor(float(multiply_adds(*given)))],
}

WRONG = {
    checks.cut_a_wire: [
        (wires("both"), "say one of"),
        (wires(own=lambda model: model), "Work on a copy"),
        (wires(form=lambda rows: np.stack(rows).T), "other way round"),
        (wires(form=lambda rows: np.stack(rows)[:, 1:]), "first proposal counts"),
        (wires(cuts=(("error",), ("control",))), "The first row is the whole network"),
        (wires(cuts=((), ("control",), ("error",))), "swapped"),
        (wires(cuts=((), ("error",), ("error", "control"))), "both wires are cut"),
        (wires(cuts=((), (), ())), "Nothing was cut"),
        (wires(form=lambda rows: np.stack(rows)[:, ::-1]), "in reverse"),
        (wires(measure=lambda off: off.norm(dim=-1).amax(dim=-1)), "largest"),
        (wires(measure=lambda off: off.square().sum(dim=-1).mean(dim=-1)), "means of squares"),
        (wires(measure=lambda off: off.square().mean(dim=(1, 2))), "means of squares"),
        (wires(measure=lambda off: off[..., 0].abs().mean(dim=-1)), "position only"),
        (wires(measure=lambda off: off.norm(dim=-1).median(dim=-1).values), "measured here"),
        (wires(measure=lambda off: off.mean(dim=(1, 2)) * 0), "positive"),
        (lambda model, x0, xT: "error", "two things"),
    ],
    checks.dead_rows: [
        (audit(none=False), "None"),
        (fails_on_none, "Ask for None first"),
        (audit(lambda row: False), "all zeros"),
        (audit(skip=True), "You miss row 1 of 'sparse'"),
        (audit(lambda row: row.any(), none=False), "wrong way round"),
        (audit(lambda row: row.sum() == 0), "sums to zero"),
        (audit(lambda row: (row == 0).any()), "all of its numbers"),
        (audit(lambda row: row.max() <= 0), "negative"),
        (audit(clear=False), "left over"),
        (lambda module, loss: set(dead_rows(module, loss)), "Return a dictionary"),
        (lambda module, loss: {p: [0] for p in module.parameters()}, "not the parameters"),
        (lambda module, loss: dead_rows(module, loss) | {"spare": [0]}, "no parameter 'spare'"),
        (renamed(str.upper), "its name is 'sparse'"),
        (lambda module, loss: {name: len(rows) for name, rows in dead_rows(module, loss).items()},
         "a list of numbers"),
        (lambda module, loss: {name: [4] for name in dead_rows(module, loss)}, "from 0 to"),
        (lambda module, loss: {name: [True] * len(p) for name, p in module.named_parameters()},
         "truth value"),
    ],
    checks.multiply_adds: [
        (lambda model, *loops: model.num_parameters, "That is the number of parameters"),
        (work(block="H * L"), "too"),
        (work(block="H * L + 1"), "every cycle"),
        (work(block="L + 1"), "lack a factor"),
        (work(block="H + L"), "nested"),
        (work(embeddings="1", decoder="1", block="1"), "each weight once"),
        (work(decoder="1"), "decoder corrects"),
        (work(decoder="H + 1"), "initial generator"),
        (work(embeddings="1"), "are embedded in every cycle"),
        (work(error="0"), "leave out"),
        (work(first="H"), "once a call"),
        (work(size=lambda part: sum(p.numel() for p in part.parameters())), "biases"),
        (lambda *arguments: 2 * multiply_adds(*arguments), "Twice"),
        (lambda model, H, L: multiply_adds(model, model.config.H_cycles, 1), "model.config"),
        (lambda *arguments: multiply_adds(*arguments) + 7, "Which parts"),
        (lambda *arguments: multiply_adds(*arguments) + 0.5, "not a whole number"),
    ],
}
