"""Checks of chapter 3: one cycle of the recursion, parameters without a gradient, multiply-adds."""

import copy
import functools

import numpy as np
import torch
from torch import nn

from trc_lib.course.exercises.check_result import (
    Wrong,
    as_array,
    as_number,
    exercise,
    on_copies,
    recognise,
    same,
    several,
)
from trc_lib.model import TinyRecursiveControl


def _tiny(seed, **changes):
    """A network of a few hundred parameters."""
    sizes = {"latent_dim": 8, "block_hidden": 8, "head_hidden": 8}
    return TinyRecursiveControl.create_two_level_small(seed=seed, **sizes | changes)


# ------------------------------------------------------------------ one H cycle

L_GETS = "the block gets z_L + z_H + x."
CYCLE_MISTAKES = [  # options of `_cycle`, and the message
    ({"steps": -1}, "z_L is updated once too few: model.config.L_cycles steps, and then z_H."),
    ({"steps": +1}, "z_L is updated once too often: model.config.L_cycles steps, and then z_H."),
    ({"H_gets": ("z_H", "z_L", "x")}, "z_H's update is given x. Only z_L's is: without x the "
                                      "shared block can tell the two updates apart."),
    ({"H_gets": ("z_L",)}, "z_H's update lacks the old z_H: the block gets z_H + z_L, or the "
                           "strategy starts from nothing in each cycle."),
    ({"L_lacks": "x"}, f"z_L's update lacks x, so it is not given the problem: {L_GETS}"),
    ({"L_lacks": "z_H"}, f"z_L's update lacks z_H: {L_GETS}"),
    ({"L_lacks": "z_L"}, f"z_L's update lacks the old z_L, so all L steps do the same: {L_GETS}"),
    ({"x_lacks": "error"},
     "x lacks the embedded error: the network is not given where its controls lead."),
    ({"x_lacks": "controls"},
     "x lacks the embedded controls: the network is not given what it is to correct."),
    ({"x_lacks": "z_initial"},
     "x lacks z_initial: after the first cycle the network is not given the problem."),
    ({"error_sign": -1}, "The error's sign is flipped: it is x_N − x_T, embed it as it is."),
    ({"correct": "replace"}, "The correction replaces the controls; it is added: a cycle refines."),
    ({"correct": "subtract"}, "The correction is subtracted from the controls; it is added."),
    ({"decodes": "z_L"}, "The decoder is given z_L; the correction is read from z_H."),
    ({"decodes": "old z_H"}, "The decoder is given the old z_H: update z_H first, then decode it."),
    ({"H_first": True}, "z_H is updated before the L steps, so it does not use their result."),
    ({"H_inside": True}, "z_H is updated inside of the inner loop, after each L step. It is "
                         "updated once a cycle, after the loop."),
    ({"residual": True},
     "You add the old latent to the block's output; the block has added it inside already."),
    *(({"always": n}, f"You always run {n} inner steps; this model may have another number: "
                      "model.config.L_cycles.") for n in range(1, 11)),
    ({"swapped": True}, "All three are right, but in another order: return z_H, z_L, controls."),
]


def _cycle(model, z_initial, z_H, z_L, controls, error, *, steps=0, H_gets=("z_H", "z_L"),
           L_lacks="", x_lacks="", error_sign=1, correct="add", decodes="z_H", H_first=False,
           H_inside=False, residual=False, always=None, swapped=False):
    """One H cycle from the weights alone, with plain products; each option makes one mistake."""
    w = dict(model.named_parameters())

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    def silu(x):
        return x / (1 + torch.exp(-x))

    def block(z):
        for i in range(model.config.block_layers):
            gate, value = linear(f"block.layers.{i}.gate_and_value", z).chunk(2, dim=-1)
            z = z + linear(f"block.layers.{i}.down", silu(gate) * value)
            z = z / z.square().mean(dim=-1, keepdim=True).sqrt()
        return z

    given = {"z_initial": z_initial, "controls": linear("control_embedding", controls),
             "error": linear("error_embedding", error_sign * error)}
    x = sum(value for name, value in given.items() if name != x_lacks)
    z = {"z_H": z_H, "z_L": z_L, "x": x, "old z_H": z_H}

    def update(name, inputs):
        z[name] = block(sum(z[part] for part in inputs)) + (z[name] if residual else 0)

    if H_first:
        update("z_H", H_gets)
    for _ in range(always or model.config.L_cycles + steps):
        update("z_L", {"z_L", "z_H", "x"} - {L_lacks})
        if H_inside:
            update("z_H", H_gets)
    if not H_first and not H_inside:
        update("z_H", H_gets)
    correction = linear("decoder.2", silu(linear("decoder.0", z[decodes])))
    new = {"add": controls + correction, "replace": correction, "subtract": controls - correction}
    latents = (z["z_L"], z["z_H"]) if swapped else (z["z_H"], z["z_L"])
    return *latents, new[correct]


WIDTHS = {"z_initial": 8, "z_H": 8, "z_L": 8, "controls": 15, "error": 2}


@functools.cache
def _trials():
    """Pairs (model, arguments of a cycle)."""
    trials = []
    for seed, L_cycles in enumerate((3, 2, 5)):
        g = torch.Generator().manual_seed(seed)
        problem = {name: torch.randn(6, width, generator=g, dtype=torch.float64)
                   for name, width in WIDTHS.items()}
        trials.append((_tiny(seed, L_cycles=L_cycles).double(), problem))
    return trials


@functools.cache
def _outcome(**mistake):
    """z_H, z_L and controls of every trial, in one list."""
    with torch.no_grad():
        return [part.numpy() for model, problem in _trials()
                for part in _cycle(model, **problem, **mistake)]


@exercise
def one_cycle(answer):
    """Check ``answer(model, z_initial, z_H, z_L, controls, error)``: z_H, z_L and controls."""
    given = []
    for model, problem in _trials():
        called = functools.partial(answer, copy.deepcopy(model))
        parts = several(on_copies(called, **problem), "z_H", "z_L", "controls")
        given += [as_array(part, (6, WIDTHS[name]), name)
                  for name, part in zip(("z_H", "z_L", "controls"), parts)]
        if not all(torch.is_tensor(part) and part.requires_grad for part in parts):
            raise Wrong("No gradient flows through what you return (no_grad, detach or numpy?); "
                        "training needs it to go back through every cycle.")
    right, everything = _outcome(), np.hstack(given)
    if not same(everything, np.hstack(right), 1e-6):
        recognise(everything, ((np.hstack(_outcome(**mistake)), message)
                               for mistake, message in CYCLE_MISTAKES), 1e-6)
        off = {name: np.abs(given[i] - right[i]).max()
               for i, name in ((1, "z_L"), (0, "z_H"), (2, "controls"))}
        first = next((name for name in off if off[name] > 1e-6), "controls")
        raise Wrong(f"The first thing that goes wrong is {first}, off by up to {off[first]:.2g}. "
                    "Compare with the pseudocode at the top of the chapter, line by line.")
    return ("z_L is updated from the problem, z_H from z_L; the same block can do both because "
            "only one of the updates is given x.")


# ------------------------------------------------------------------ parameters without a gradient

class _OneToken(nn.Module):
    """Attention over one token: the softmax is 1, so query and key get a gradient of zeros."""

    def __init__(self, g):
        super().__init__()
        for name in ("query", "key", "value"):
            setattr(self, name, nn.Parameter(torch.randn(4, 4, generator=g)))

    def forward(self, token):  # [batch, 4]
        score = ((token @ self.query) * (token @ self.key)).sum(dim=-1, keepdim=True)
        return torch.softmax(score, dim=-1) * (token @ self.value)


class _Skipping(nn.Module):
    """Two unused parameters; and two used ones whose gradients only seem to be zero."""

    def __init__(self, g):
        super().__init__()
        self.tilt = nn.Parameter(torch.randn(4, generator=g))
        self.sparse = nn.Parameter(torch.randn(4, generator=g))
        self.used, self.spare = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, token):
        tilt = self.tilt @ torch.tensor([1.0, -1.0, 1.0, -1.0])
        sparse = -self.sparse @ torch.tensor([1.0, 0.0, 0.0, 1.0])
        return self.used(token).square() + tilt + sparse


def _audits():
    """(module, token, {dead parameter: "none" or "zero"}, whether it has old gradients)."""
    for stale in (False, True):
        for kind, names, why in ((_Skipping, ("spare.weight", "spare.bias"), "none"),
                                 (_OneToken, ("query", "key"), "zero")):
            g = torch.Generator().manual_seed(0)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                module = kind(g)
            for parameter in module.parameters() if stale else ():
                parameter.grad = torch.ones_like(parameter)
            yield module, torch.randn(5, 4, generator=g), dict.fromkeys(names, why), stale


@exercise
def dead_parameters(answer):
    """Check ``answer(module, loss)``: the set of names of the parameters without a gradient."""
    for module, token, dead, stale in _audits():
        names = [name for name, _ in module.named_parameters()]
        try:
            given = answer(module, lambda module, token=token: module(token).mean())
        except (AttributeError, TypeError) as error:
            if "NoneType" in str(error):
                raise Wrong("A parameter that takes no part in the loss has grad None, not zeros, "
                            f"and your code fails on it ({error}). Ask for None first.") from None
            raise
        if not isinstance(given, (set, frozenset, list, tuple)):
            raise Wrong(f"Return the set of names, not {type(given).__name__}.")
        if not all(isinstance(name, str) for name in given):
            raise Wrong("Return the parameters' names, such as 'encoder.0.weight', not the "
                        "parameters: see named_parameters().")
        given = set(given)
        if given == set(names) - set(dead):
            raise Wrong(f"The wrong way round: of {names} you name those that get a gradient.")
        for name in names:
            if name in dead and name not in given:
                if stale:
                    raise Wrong(f"{name!r} had a gradient left over from an earlier backward pass. "
                                "Clear the gradients before you go backward.")
                raise Wrong(f"You miss {name!r}: " + {
                    "zero": "its gradient is not None, but all zeros, so no step ever changes it.",
                    "none": "it takes no part in the loss, so its grad is None."}[dead[name]])
        for name in names:
            if name in given and name not in dead:
                raise Wrong(f"{name!r} is not dead: its gradient is " + {
                    "tilt": "[1, -1, 1, -1], which sums to zero but is not zero. Look at the "
                            "sizes, not at a sum.",
                    "sparse": "[-1, 0, 0, -1]. A parameter is dead if all of its numbers get zero; "
                              "negative numbers count, too."}.get(name, "not zero."))
        if given != set(dead):
            raise Wrong(f"There is no parameter {sorted(given - set(names))[0]!r} in this module; "
                        "named_parameters() has the names.")
    return "no loss curve shows these: a dead parameter only adds to the parameter count."


# ------------------------------------------------------------------ multiply-adds of one call

def _counted(model):
    """The multiply-adds of one problem in linear layers, counted while the network runs."""
    counts = []
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda layer, *_: counts.append(layer.weight.numel()))
    with torch.no_grad():
        model(torch.zeros(1, 2), torch.zeros(1, 2))
    return sum(counts)


def _miscounts(model, H, L):
    """Pairs of the count that a plausible mistake gives, and its message."""
    weights = {name: sum(p.numel() for p in part.parameters() if p.ndim == 2)
               for name, part in model.named_children()}
    biases = {name: sum(p.numel() for p in part.parameters() if p.ndim == 1)
              for name, part in model.named_children()}

    def calls(H=H, L=L):
        return {"encoder": 1, "initial_generator": 1, "control_embedding": H, "error_embedding": H,
                "block": H * (L + 1), "decoder": H}

    def count(**changes):
        return sum(weights[name] * n for name, n in (calls() | changes).items())

    once = "The initial generator runs once a call; later cycles correct its proposal."
    return [
        (count(block=H * L), f"The block is called H_cycles · (L_cycles + 1) times, {H * (L + 1)} "
                             f"for {H} and {L}: z_H's update uses it, too."),
        (count(block=H * L + 1), "z_H is updated at the end of every cycle, not once at the end."),
        (count(block=L + 1),
         "The inner loop runs in every cycle: the block's calls lack a factor H_cycles."),
        (count(block=H + L), "The loops are nested: their counts multiply, they do not add."),
        (sum(weights.values()),
         "That is each weight once. But most are used several times: which, and how often?"),
        (count(decoder=1), "The decoder corrects the controls in every cycle, not once a call."),
        (count(decoder=H + 1), "The decoder runs once a cycle. The first proposal comes from the "
                               "initial generator, not from the decoder."),
        (count(control_embedding=1, error_embedding=1),
         "Controls and error change with every cycle, so they are embedded in every cycle."),
        (count(error_embedding=0), "You leave out the error embedding, which runs once a cycle."),
        (count(encoder=H), "The encoder runs once a call: the problem is the same in all cycles."),
        (count(initial_generator=H), once),
        (count(encoder=H, initial_generator=H),
         "Encoder and initial generator run once a call, before the first cycle."),
        (count() + sum(biases[name] * n for name, n in calls().items()),
         "You count the biases: a bias is added, nothing is multiplied. Matrices only."),
        (2 * count(), "Twice too many: count a multiply-add as one, not as two operations."),
        (sum(weights[name] * n for name, n in calls(1, 1).items()),
         "You use the cycles of model.config; count for those that are given."),
    ]


@exercise
def multiply_adds(answer):
    """Check ``answer(model, H_cycles, L_cycles)``: multiply-adds of one problem, weights only."""
    for seed, (H, L, layers, hidden) in enumerate(((3, 4, 2, 8), (5, 2, 2, 12), (2, 6, 3, 8))):
        sizes = {"block_layers": layers, "block_hidden": hidden, "head_hidden": hidden + 2,
                 "latent_dim": 6}
        model = _tiny(seed, H_cycles=1, L_cycles=1, **sizes)
        right = _counted(_tiny(seed, H_cycles=H, L_cycles=L, **sizes))
        given = as_number(answer(model, H, L), "The count")
        if given != right:
            hint = dict(reversed(_miscounts(model, H, L))).get(given, (
                "Which parts run once a call, which once a cycle, and which in every inner step?"))
            raise Wrong(f"For H_cycles = {H}, L_cycles = {L} and a tiny model you count "
                        f"{given:,.0f}; counted while it runs: {right:,}. {hint}")
    return ("the same as counted while the network runs. The block's share grows with H_cycles · "
            "(L_cycles + 1): depth adds no parameters, but it adds work.")
