"""Answers to chapter 3's exercises: right ones, and wrong ones with a part of the message."""

from torch import nn

from trc_lib.course.exercises import model as checks


def one_cycle(model, z_initial, z_H, z_L, controls, error):
    x = z_initial + model.control_embedding(controls) + model.error_embedding(error)
    for _ in range(model.config.L_cycles):
        z_L = model.block(z_L + z_H + x)
    z_H = model.block(z_H + z_L)
    return z_H, z_L, controls + model.decoder(z_H)


def cycle(steps=0, always=None, error_sign=1, L="z_L + z_H + x", H="z_H + z_L",
          x="z_initial + model.control_embedding(controls) + model.error_embedding(error)",
          end="controls + model.decoder(z_H)", H_first=False, H_inside=False, residual=False):
    """A one_cycle of the network's own parts, with the mistakes that are given."""
    def answer(model, z_initial, z_H, z_L, controls, error):
        names = {"model": model, "z_initial": z_initial, "z_H": z_H, "z_L": z_L, "old_H": z_H,
                 "controls": controls, "error": error_sign * error}
        names["x"] = eval(x, names)

        def update(name, inside):
            names[name] = model.block(eval(inside, names)) + (names[name] if residual else 0)

        if H_first:
            update("z_H", H)
        for _ in range(always or model.config.L_cycles + steps):
            update("z_L", L)
            if H_inside:
                update("z_H", H)
        if not H_first and not H_inside:
            update("z_H", H)
        return names["z_H"], names["z_L"], eval(end, names)
    return answer


def in_place(model, z_initial, z_H, z_L, controls, error):
    z_H, z_L, new = one_cycle(model, z_initial, z_H, z_L, controls, error)
    controls += (new - controls).detach()
    return z_H, z_L, controls


def swapped(*arguments):
    z_H, z_L, controls = one_cycle(*arguments)
    return z_L, z_H, controls


def dead_parameters(module, loss):
    module.zero_grad()
    loss(module).backward()
    return {name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()}


def audit(dead, clear=True, returned=set):
    """A dead_parameters with another test of a gradient."""
    def answer(module, loss):
        if clear:
            module.zero_grad()
        loss(module).backward()
        return returned(name for name, p in module.named_parameters() if dead(p.grad))
    return answer


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
    checks.one_cycle: [one_cycle, cycle()],
    checks.dead_parameters: [dead_parameters],
    checks.multiply_adds: [multiply_adds, work()],
}

WRONG = {
    checks.one_cycle: [
        (cycle(steps=-1), "too few"),
        (cycle(steps=1), "too often"),
        (cycle(always=4), "always run 4"),
        (cycle(H="z_H + z_L + x"), "is given x"),
        (cycle(H="z_L"), "old z_H"),
        (cycle(L="z_L + z_H"), "lacks x"),
        (cycle(L="z_L + x"), "lacks z_H"),
        (cycle(L="z_H + x"), "old z_L"),
        (cycle(x="z_initial + model.control_embedding(controls)"), "embedded error"),
        (cycle(x="z_initial + model.error_embedding(error)"), "embedded controls"),
        (cycle(x="model.control_embedding(controls) + model.error_embedding(error)"),
         "lacks z_initial"),
        (cycle(error_sign=-1), "flipped"),
        (cycle(end="model.decoder(z_H)"), "replaces"),
        (cycle(end="controls - model.decoder(z_H)"), "subtracted"),
        (cycle(end="controls + model.decoder(z_L)"), "given z_L"),
        (cycle(end="controls + model.decoder(old_H)"), "given the old z_H"),
        (cycle(H_first=True), "before the L steps"),
        (cycle(H_inside=True), "inside of the inner loop"),
        (cycle(residual=True), "added it inside already"),
        (cycle(end="controls + 2 * model.decoder(z_H)"), "first thing that goes wrong is controls"),
        (cycle(end="(controls + model.decoder(z_H)).detach()"), "No gradient"),
        (cycle(end="(controls + model.decoder(z_H))[..., None]"), "[6, 15]"),
        (in_place, "in place"),
        (swapped, "another order"),
        (lambda *arguments: one_cycle(*arguments)[2], "three things"),
    ],
    checks.dead_parameters: [
        (audit(lambda grad: grad is None), "all zeros"),
        (audit(lambda grad: grad is not None and not grad.any()), "None"),
        (audit(lambda grad: not grad.any()), "Ask for None first"),
        (audit(lambda grad: grad is not None and grad.any()), "wrong way round"),
        (audit(lambda grad: grad is None or grad.sum() == 0), "sums to zero"),
        (audit(lambda grad: grad is None or (grad == 0).any()), "all of its numbers"),
        (audit(lambda grad: grad is None or grad.max() <= 0), "negative"),
        (audit(lambda grad: grad is None or not grad.any(), clear=False), "left over"),
        (lambda module, loss: len(dead_parameters(module, loss)), "set of names"),
        (lambda module, loss: set(map(dict(module.named_parameters()).get,
                                      dead_parameters(module, loss))),
         "not the parameters"),
        (lambda module, loss: dead_parameters(module, loss) | {"spare"}, "no parameter 'spare'"),
    ],
    checks.multiply_adds: [
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
    ],
}
