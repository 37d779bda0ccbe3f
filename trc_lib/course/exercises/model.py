"""Checks of chapter 3: one cycle of the recursion, the gradient audit, and the arithmetic of one call."""

import torch
from torch import nn

from trc_lib.course.exercises.check_result import Wrong, as_array, exercise
from trc_lib.model import TinyRecursiveControl


def _tiny(seed, **changes):
    """A network of a few hundred numbers, in float64, so that a mistake is never mistaken for rounding."""
    sizes = {"latent_dim": 8, "block_hidden": 8, "head_hidden": 8}
    return TinyRecursiveControl.create_two_level_small(seed=seed, **sizes | changes).double()


# ------------------------------------------------------------------ one H cycle

# Each mistake is a change of the reference below; which one the learner made is found by trying them all.
CYCLE_MISTAKES = [
    ({"steps": -1}, "z_L is updated once too few: it needs model.config.L_cycles steps before z_H's turn."),
    ({"steps": +1}, "z_L is updated once too often: model.config.L_cycles steps, and then it is z_H's turn."),
    ({"H_gets": ("z_H", "z_L", "x")}, "z_H's update is given x. Only z_L's is: without x is how the shared block can "
                                      "tell the two jobs apart."),
    ({"H_gets": ("z_L",)}, "z_H's update forgets the old z_H: the block gets z_H + z_L, or the strategy starts from "
                           "nothing in each cycle."),
    ({"L_lacks": "x"}, "z_L's update lacks x, so that it never hears of the problem: the block gets z_L + z_H + x."),
    ({"L_lacks": "z_H"}, "z_L's update lacks z_H: the block gets z_L + z_H + x."),
    ({"L_lacks": "z_L"}, "z_L's update lacks the old z_L, so all L steps do the same thing: the block gets z_L + z_H + x."),
    ({"x_lacks": "error"}, "x lacks the embedded error: the network is never told where its controls would end."),
    ({"x_lacks": "controls"}, "x lacks the embedded controls: the network cannot see what it is correcting."),
    ({"x_lacks": "z_initial"}, "x lacks z_initial: after the first cycle the network forgets which problem it is solving."),
    ({"error_sign": -1}, "the error's sign is flipped: it comes as x_N − x_T, embed it as it is."),
    ({"correct": "replace"}, "the correction replaces the controls. It is added to them: a cycle refines, it does not "
                             "start again."),
    ({"correct": "subtract"}, "the correction is subtracted from the controls; it is added."),
    ({"decodes": "z_L"}, "the decoder is given z_L; the correction is read from z_H."),
    ({"decodes": "old z_H"}, "the decoder is given the old z_H: update z_H first, then read the correction from it."),
    ({"H_first": True}, "z_H is updated before the L steps, so it cannot know what they found. It comes after them."),
    ({"H_inside": True}, "z_H is updated inside of the inner loop, after each L step. It is updated once a cycle, "
                         "after the loop."),
    ({"residual": True}, "the old latent is added to the block's output; the block has added it inside already."),
]


def _cycle(model, z_initial, z_H, z_L, controls, error, *, steps=0, H_gets=("z_H", "z_L"), L_lacks="", x_lacks="", error_sign=1,
           correct="add", decodes="z_H", H_first=False, H_inside=False, residual=False, always=None):
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

    def update_H():
        parts = {"z_H": z_H, "z_L": z_L, "x": x}
        return block(sum(parts[name] for name in H_gets)) + (z_H if residual else 0)

    known = {"z_initial": z_initial, "controls": linear("control_embedding", controls),
             "error": linear("error_embedding", error_sign * error)}
    x, old_H = sum(value for name, value in known.items() if name != x_lacks), z_H
    if H_first:
        z_H = update_H()
    for _ in range(always or model.config.L_cycles + steps):
        parts = {"z_L": z_L, "z_H": z_H, "x": x}
        z_L = block(sum(value for name, value in parts.items() if name != L_lacks)) + (z_L if residual else 0)
        if H_inside:
            z_H = update_H()
    if not H_first and not H_inside:
        z_H = update_H()
    correction = linear("decoder.2", silu(linear("decoder.0", {"z_H": z_H, "z_L": z_L, "old z_H": old_H}[decodes])))
    return z_H, z_L, {"add": controls + correction, "replace": correction, "subtract": controls - correction}[correct]


def _same(given, wanted):
    return all(torch.allclose(a, b, atol=1e-6, rtol=1e-6) for a, b in zip(given, wanted))


@exercise
def one_cycle(answer):
    """``answer(model, z_initial, z_H, z_L, controls, error)`` gives z_H, z_L and controls after one H cycle."""
    trials = []
    for seed, L_cycles in enumerate((3, 2, 5)):
        model, g = _tiny(seed, L_cycles=L_cycles), torch.Generator().manual_seed(seed)
        widths = (8, 8, 8, 15, 2)                                  # z_initial, z_H, z_L, controls, error
        arguments = [torch.randn(6, width, generator=g, dtype=torch.float64) for width in widths]
        copies = [argument.clone() for argument in arguments]
        given = answer(model, *copies)
        if not isinstance(given, (tuple, list)) or len(given) != 3:
            raise Wrong("Return three things: z_H, z_L, controls, in this order.")
        shapes = {"z_H": (6, 8), "z_L": (6, 8), "controls": (6, 15)}
        for (name, shape), value in zip(shapes.items(), given):
            as_array(value, shape, name)
        for name, before, after in zip(("z_initial", "z_H", "z_L", "controls", "error"), arguments, copies):
            if not torch.equal(before, after):
                raise Wrong(f"{name} is changed in place (by += or [:] =), so whoever passed it in loses the old one, "
                            f"and the backward pass may too. Make a new tensor: {name} = {name} + ...")
        if not all(torch.is_tensor(value) and value.requires_grad for value in given):
            raise Wrong("No gradient flows through what you return (no_grad, detach or numpy?); "
                        "training needs it to go back through every cycle.")
        trials.append((model, arguments, [value.detach().double() for value in given]))

    if all(_same(given, _cycle(model, *arguments)) for model, arguments, given in trials):
        return "z_L thinks about the problem, z_H about z_L; the same block can do both because only one of them is given x."
    for change, message in CYCLE_MISTAKES:
        if all(_same(given, _cycle(model, *arguments, **change)) for model, arguments, given in trials):
            raise Wrong(message[0].upper() + message[1:])
    for steps in range(1, 11):
        if all(_same(given, _cycle(model, *arguments, always=steps)) for model, arguments, given in trials):
            raise Wrong(f"You always run {steps} inner steps; this model may have another number: model.config.L_cycles.")
    if all(_same([given[1], given[0], given[2]], _cycle(model, *arguments)) for model, arguments, given in trials):
        raise Wrong("All three are right, but in another order: return z_H, z_L, controls.")
    model, arguments, given = trials[0]
    wanted = [value.detach() for value in _cycle(model, *arguments)]
    off = {name: float((a - b).abs().max()) for name, a, b in zip(("z_H", "z_L", "controls"), given, wanted)}
    first = next(name for name in ("z_L", "z_H", "controls") if off[name] > 1e-6)
    raise Wrong(f"The first thing that goes wrong is {first}, off by up to {off[first]:.2g}. "
                "Compare with the pseudocode at the top of the chapter, line by line.")


# ------------------------------------------------------------------ the gradient audit

class _OneToken(nn.Module):
    """Attention over a single token: its softmax is always 1, so query and key get a gradient of zeros."""

    def __init__(self, g):
        super().__init__()
        for name in ("query", "key", "value"):
            setattr(self, name, nn.Parameter(torch.randn(4, 4, generator=g)))

    def forward(self, token):                                                  # [batch, 4]
        score = ((token @ self.query) * (token @ self.key)).sum(dim=-1, keepdim=True)
        return torch.softmax(score, dim=-1) * (token @ self.value)


class _Skipping(nn.Module):
    """Two parameters that are never used; and two alive ones whose gradients look dead to a careless eye."""

    def __init__(self, g):
        super().__init__()
        self.tilt, self.sparse = nn.Parameter(torch.randn(4, generator=g)), nn.Parameter(torch.randn(4, generator=g))
        self.used, self.spare = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, token):
        tilt = (self.tilt * torch.tensor([1.0, -1.0, 1.0, -1.0])).sum()        # its gradient sums to zero
        sparse = -(self.sparse * torch.tensor([1.0, 0.0, 0.0, 1.0])).sum()     # half of its gradient is zero, the rest below
        return self.used(token).square() + tilt + sparse


def _audits():
    """Modules, each with the names that are dead in it and why; the last two have been trained before."""
    for stale in (False, True):
        for kind, names, why in ((_Skipping, ("spare.weight", "spare.bias"), "none"), (_OneToken, ("query", "key"), "zero")):
            g = torch.Generator().manual_seed(0)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                module = kind(g)
            if stale:
                for parameter in module.parameters():
                    parameter.grad = torch.ones_like(parameter)
            yield module, torch.randn(5, 4, generator=g), dict.fromkeys(names, why), stale


@exercise
def dead_parameters(answer):
    """``answer(module, loss)``, where ``loss(module)`` is a scalar, gives the set of names without a gradient."""
    for module, token, dead, stale in _audits():
        names = [name for name, _ in module.named_parameters()]
        try:
            given = answer(module, lambda module, token=token: module(token).mean())
        except (AttributeError, TypeError) as error:
            if "NoneType" in str(error):
                raise Wrong("A parameter that takes no part in the loss has grad None, not zeros, and your code stumbles "
                            f"over it ({error}). Ask for None first.") from None
            raise
        if not isinstance(given, (set, frozenset, list, tuple)):
            raise Wrong(f"Return the set of names, not {type(given).__name__}.")
        if not all(isinstance(name, str) for name in given):
            raise Wrong("Return the parameters' names, such as 'encoder.0.weight', not the parameters: see named_parameters().")
        given, alive = set(given), set(names) - set(dead)
        if given == alive:
            raise Wrong(f"The wrong way round: of {names} you name the ones that do get a gradient.")
        for name in (name for name in names if name in dead and name not in given):
            if stale:
                raise Wrong(f"{name!r} had a gradient left over from an earlier backward pass, and you took it for a new one. "
                            "Clear the gradients before you go backward.")
            if dead[name] == "zero":
                raise Wrong(f"You miss {name!r}: its gradient is not None, but all zeros, so no step ever moves it.")
            raise Wrong(f"You miss {name!r}: it takes no part in the loss, so its grad is None.")
        for name in (name for name in names if name in alive and name in given):
            if name == "tilt":
                raise Wrong("'tilt' is alive: its gradient is [1, -1, 1, -1], which sums to zero but is not zero. "
                            "Look at sizes, not at a sum.")
            if name == "sparse":
                raise Wrong("'sparse' is alive: its gradient is [-1, 0, 0, -1]. Dead is a parameter all of whose numbers "
                            "get zero; and negative numbers count, too.")
            raise Wrong(f"{name!r} is alive: its gradient is not zero.")
        if given != set(dead):
            raise Wrong(f"There is no parameter {sorted(given - set(names))[0]!r} in this module; named_parameters() "
                        "has the names.")
    return "no loss curve would have shown these: a dead parameter costs nothing but your trust in the parameter count."


# ------------------------------------------------------------------ the arithmetic of one call

def _counted(model):
    """The multiply-adds of one problem, counted while the network runs: in x out for each call of a linear layer."""
    total, hooks = [0], []

    def count(layer, inputs, output):
        total[0] += layer.in_features * layer.out_features

    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            hooks.append(layer.register_forward_hook(count))
    with torch.no_grad():
        model(torch.zeros(1, 2), torch.zeros(1, 2))
    for hook in hooks:
        hook.remove()
    return total[0]


def _miscounts(model, H, L):
    """What each plausible mistake would count."""
    linears = {name: [m for m in part.modules() if isinstance(m, nn.Linear)] for name, part in model.named_children()}
    w = {name: sum(m.weight.numel() for m in part) for name, part in linears.items()}
    b = {name: sum(m.bias.numel() for m in part if m.bias is not None) for name, part in linears.items()}
    once = {"encoder": 1, "initial_generator": 1}
    calls = once | {"control_embedding": H, "error_embedding": H, "block": H * (L + 1), "decoder": H}

    def count(**changes):
        return sum(w[name] * n for name, n in (calls | changes).items())

    own = model.config
    return {
        count(block=H * L): f"The block is called H_cycles · (L_cycles + 1) times, {H * (L + 1)} for {H} and {L}: "
                            "z_H's update uses it, too.",
        count(block=H * L + 1): "z_H is updated at the end of every cycle, not only once at the end of all.",
        count(block=L + 1): "The inner loop runs again in every one of the H cycles: the block's calls lack a factor H_cycles.",
        count(block=H + L): "The loops are nested: their counts multiply, they do not add.",
        count(**dict.fromkeys(calls, 1)): "That is each weight once. But most are used several times in one call: "
                                          "which parts, and how often?",
        count(decoder=1): "The decoder corrects the controls at the end of every cycle, not only once.",
        count(decoder=H + 1): "The decoder runs once a cycle. The first proposal comes from the initial generator, "
                              "not from the decoder.",
        count(control_embedding=1, error_embedding=1): "The controls and the error change with every cycle, so they "
                                                       "are embedded in every cycle.",
        count(error_embedding=0): "You leave out the error embedding, which runs once a cycle.",
        count(encoder=H): "The encoder runs once a call: the problem does not change from cycle to cycle.",
        count(initial_generator=H): "The initial generator runs once a call; later cycles correct, they do not propose anew.",
        count(encoder=H, initial_generator=H): "Encoder and initial generator run once a call, before the first cycle.",
        count() + sum(b[name] * n for name, n in calls.items()): "You count the biases: a bias is added, but nothing "
                                                                 "is multiplied. Matrices only.",
        2 * count(): "Exactly twice too many: count a multiply-add as one, not as two operations.",
        count(**once, control_embedding=own.H_cycles, error_embedding=own.H_cycles, decoder=own.H_cycles,
              block=own.H_cycles * (own.L_cycles + 1)): "You use the cycles of model.config; count for those that are given.",
    }


@exercise
def multiply_adds(answer):
    """``answer(model, H_cycles, L_cycles)`` gives the multiply-adds of one problem, weight matrices only."""
    for seed, (H, L, layers, hidden) in enumerate(((3, 4, 2, 8), (5, 2, 2, 12), (2, 6, 3, 8))):
        sizes = {"block_layers": layers, "block_hidden": hidden, "head_hidden": hidden + 2, "latent_dim": 6}
        model = _tiny(seed, H_cycles=1, L_cycles=1, **sizes).float()
        wanted = _counted(_tiny(seed, H_cycles=H, L_cycles=L, **sizes).float())
        given = float(as_array(answer(model, H, L), (), "The count"))
        if given != wanted:
            hint = _miscounts(model, H, L).get(given, "Which parts run once a call, which once a cycle, and which in "
                                                      "every inner step?")
            raise Wrong(f"For H_cycles = {H}, L_cycles = {L} and a tiny model you count {given:,.0f}; "
                        f"counted while it runs: {wanted:,}. {hint}")
    return ("counted while the network runs, it is the same. The block's share grows with H_cycles · (L_cycles + 1): "
            "depth without parameters, but not without work.")
