"""Checks of chapter 3: a wire cut in a trained network, rows without a gradient, multiply-adds."""

import collections.abc
import copy

import numpy as np
import torch
from torch import nn

from trc_lib.course.exercises.check_result import (
    Wrong,
    apart,
    as_array,
    as_number,
    exercise,
    recognise,
    same,
    several,
)
from trc_lib.course.workspace import pretrained
from trc_lib.data import generate_dataset
from trc_lib.model import TinyRecursiveControl

# ------------------------------------------------------------------ a wire that is cut

WIRES = ("error", "controls")
CLOSE = 0.01  # of an error: the arithmetic is that of float32, the batch may be cut up


def _differences(model, problems):
    """x_N - x_T of every answer, [H+1, n, 2]."""
    with torch.no_grad():
        answers = model(problems.initial_states, problems.target_states)["cycle_controls"].double()
    starts = problems.initial_states.expand(len(answers), -1, -1)
    ends = problems.system.rollout(starts, answers)[:, :, -1]
    return (ends - problems.target_states).numpy()


def _cut(model, *names):
    model = copy.deepcopy(model)
    for name in names:
        nn.init.zeros_(model.get_parameter(name))
    return model


@exercise
def cut_a_wire(answer):
    """Check ``answer(model, x0, xT)``: the dearer wire, and mean final errors [3, H+1]."""
    problems, given_model, model = generate_dataset(64, seed=5), pretrained(), pretrained()
    dearer, errors = several(
        answer(given_model, problems.initial_states.clone(), problems.target_states.clone()),
        "the wire that you expect to cost more", "the mean final errors")
    if not isinstance(dearer, str) or dearer.strip().lower() not in WIRES:
        raise Wrong(f"Your prediction is {dearer!r}; say one of 'error', 'controls'.")
    weights = model.state_dict()
    changed = [name for name, value in given_model.state_dict().items()
               if not torch.equal(value, weights[name])]
    if changed:
        raise Wrong(f"You cut {changed[0]} of the network that was given, and the caller still "
                    "needs it whole. Work on a copy: copy.deepcopy(model).")
    H = model.config.H_cycles
    errors = as_array(errors, (3, H + 1), "The array of final errors", {
        (H + 1, 3): "The array has an axis for the networks and one for the answers, in this "
                    f"order: [3, {H + 1}]. Yours is the other way round.",
        (3, H): f"There are {H + 1} answers: the first proposal counts, too.",
        (2, H + 1): "The first row is the whole network, then come the two that are cut."})
    e, c = "error_embedding.weight", "control_embedding.weight"
    bias = "control_embedding.bias"
    found = {names: _differences(_cut(model, *names), problems)
             for names in ((), (e,), (c,), (c, bias), (e, c))}
    right = {names: np.linalg.norm(each, axis=-1).mean(axis=-1) for names, each in found.items()}

    def table(*rows, of=right):
        return np.log(np.stack([of[row] for row in rows]))

    if (errors <= 0).any():
        raise Wrong("A mean of distances is positive; yours has zero or negative numbers.")
    logs, whole = np.log(errors), table((), (e,), (c,))
    if not any(same(logs, table((), (e,), row), CLOSE) for row in ((c,), (c, bias))):
        largest = {names: np.linalg.norm(each, axis=-1).max(axis=-1)
                   for names, each in found.items()}
        rooted = {names: (each**2).sum(axis=-1).mean(axis=-1) ** 0.5
                  for names, each in found.items()}
        squared = {names: (each**2).sum(axis=-1).mean(axis=-1) for names, each in found.items()}
        means = {names: (each**2).mean(axis=(-1, -2)) for names, each in found.items()}
        places = {names: np.abs(each[..., 0]).mean(axis=-1) for names, each in found.items()}
        recognise(logs, [
            (table((), (c,), (e,)), "The rows of the two wires are swapped: whole, error wire cut, "
                                    "controls wire cut."),
            (table((), (e,), (e, c)), "In the last row both wires are cut. Cut one at a time: "
                                      "begin with a new copy of the whole network."),
            (table((), (), ()), "Nothing was cut: the three rows are those of the whole network."),
            (table((), (e,), (e,)), "The last row has the error wire cut, not the controls wire."),
            (whole[:, ::-1], "The columns are in reverse: the first proposal comes first."),
            *((table((), (e,), (c,), of=other), message) for other, message in (
                (largest, "These are the largest errors of the 64 problems; take the mean."),
                (squared, "These are means of squares; take the mean of the distances."),
                (rooted, "These are roots of mean squares; take the mean of the distances."),
                (means, "These are means of squares; take the mean of the distances "
                        "|x_N − x_T|, position and velocity together."),
                (places, "These are errors of the position only; the distance has the velocity "
                         "in it, too.")))], CLOSE)
        row, column = np.unravel_index(np.abs(logs - whole).argmax(), logs.shape)
        given, wanted = apart(errors[row, column], np.exp(whole[row, column]))
        network = ("the whole network", "error wire cut", "controls wire cut")[row]
        moment = f"after cycle {column}" if column else "first proposal"
        raise Wrong(f"Row {row}, column {column} ({network}, {moment}) is {given}; measured here "
                    f"it is {wanted}.")
    last = errors[:, -1]
    said = dearer.strip().lower()
    return (f"after the last cycle the carts end {last[0]:.4f} from their targets; without the "
            f"error wire {last[1]:.3f}, without the controls wire {last[2]:.2f}. You expected "
            f"{said!r}. The first proposal stays: it is made before the first look. "
            "Which wire a network needs is another question: chapter 4 trains one without.")


# ------------------------------------------------------------------ rows without a gradient

class _OneToken(nn.Module):
    """Attention over one token: the softmax is 1, so query and key get a gradient of zeros."""

    def __init__(self, g):
        super().__init__()
        for name in ("query", "key", "value"):
            setattr(self, name, nn.Parameter(torch.randn(4, 4, generator=g)))

    def forward(self, token):  # [batch, 4]
        score = ((token @ self.query) * (token @ self.key)).sum(dim=-1, keepdim=True)
        return torch.softmax(score, dim=-1) * (token @ self.value)


class _Packed(nn.Module):
    """The same by PyTorch, which keeps query, key and value in one parameter."""

    def __init__(self, g):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, token):
        token = token[:, None]
        return self.attention(token, token, token, need_weights=False)[0]


class _Skipping(nn.Module):
    """Unused parameters; and used ones whose gradients only seem to be zero."""

    def __init__(self, g):
        super().__init__()
        self.tilt = nn.Parameter(torch.randn(2, 4, generator=g))
        self.sparse = nn.Parameter(torch.randn(3, 4, generator=g))
        self.used, self.spare = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, token):
        tilt = (self.tilt @ torch.tensor([1.0, -1.0, 1.0, -1.0])).sum()
        sparse = -(self.sparse[::2] @ torch.tensor([1.0, 0.0, 0.0, 1.0])).sum()
        return self.used(token).square() + tilt + sparse


DEAD = {  # of each module, {name: (dead rows, why)}
    _Skipping: {"spare.weight": (range(4), "none"), "spare.bias": (range(4), "none"),
                "sparse": ((1,), "zero")},
    _OneToken: {"query": (range(4), "zero"), "key": (range(4), "zero")},
    _Packed: {f"attention.in_proj_{kind}": (range(8), "packed") for kind in ("weight", "bias")},
}
WHY = {"zero": "its gradient is not None, but all zeros, so no step ever changes it.",
       "none": "the parameter takes no part in the loss, so its grad is None.",
       "packed": "the parameter holds query, key and value below one another, and only value gets "
                 "a gradient. Ask each row, not the whole parameter."}
ALIVE = {"tilt": "[1, -1, 1, -1], which sums to zero but is not zero. Look at the sizes, not at a "
                 "sum.",
         "sparse": "[-1, 0, 0, -1]. A row is dead if all of its numbers get zero; negative "
                   "numbers count, too."}


def _audits():
    """(module, token, its entry of `DEAD`, whether it has old gradients)."""
    for stale in (False, True):
        for kind, dead in DEAD.items():
            g = torch.Generator().manual_seed(0)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                module = kind(g)
            for parameter in module.parameters() if stale else ():
                parameter.grad = torch.ones_like(parameter)
            yield module, torch.randn(5, 4, generator=g), dead, stale


def _as_rows(given, sizes):
    """What the learner gave, as {name: set of row numbers}, without empty ones."""
    if not isinstance(given, collections.abc.Mapping):
        raise Wrong("Return a dictionary, {name of the parameter: list of its dead rows}, not "
                    f"{type(given).__name__}.")
    found = {}
    for name, rows in given.items():
        if not isinstance(name, str):
            raise Wrong("The keys are the parameters' names, such as 'encoder.0.weight', not the "
                        "parameters: see named_parameters().")
        if name not in sizes:
            case = [each for each in sizes if each.lower() == name.lower()]
            raise Wrong(f"There is no parameter {name!r} in this module; " + (
                f"its name is {case[0]!r}." if case else "named_parameters() has the names."))
        rows = rows.tolist() if hasattr(rows, "tolist") else rows
        if not isinstance(rows, collections.abc.Iterable) or isinstance(rows, str):
            raise Wrong(f"The rows of {name!r} should be a list of numbers, not "
                        f"{type(rows).__name__}.")
        rows = list(rows)
        if len(rows) == sizes[name] > 1 and all(isinstance(row, bool | np.bool_) for row in rows):
            raise Wrong(f"For {name!r} you return one truth value a row; return the numbers of the "
                        "dead rows.")
        try:
            numbers = {int(row) for row in rows}
            whole = all(int(row) == row for row in rows)
        except (TypeError, ValueError):
            whole, numbers = False, set()
        if not whole or not numbers <= set(range(sizes[name])):
            raise Wrong(f"The rows of {name!r} are numbers from 0 to {sizes[name] - 1}; yours are "
                        f"{rows}.")
        if numbers:
            found[name] = numbers
    return found


@exercise
def dead_rows(answer):
    """Check ``answer(module, loss)``: {name: rows that get no gradient}."""
    for module, token, dead, stale in _audits():
        sizes = {name: len(parameter) for name, parameter in module.named_parameters()}
        try:
            given = answer(module, lambda module, token=token: module(token).square().mean()
                           if isinstance(module, _Packed) else module(token).mean())
        except (AttributeError, TypeError) as error:
            if "NoneType" in str(error):
                raise Wrong("A parameter that takes no part in the loss has grad None, not zeros, "
                            f"and your code fails on it ({error}). Ask for None first.") from None
            raise
        given = _as_rows(given, sizes)
        right = {name: set(rows) for name, (rows, _) in dead.items()}
        alive = {name: set(range(size)) - right.get(name, set()) for name, size in sizes.items()}
        if given == {name: rows for name, rows in alive.items() if rows}:
            raise Wrong(f"The wrong way round: of {list(sizes)} you return the rows that get a "
                        "gradient.")
        for name, rows in right.items():
            if missed := sorted(rows - given.get(name, set())):
                if stale:
                    raise Wrong(f"{name!r} had a gradient left over from an earlier backward pass. "
                                "Clear the gradients before you go backward.")
                raise Wrong(f"You miss row {missed[0]} of {name!r}: {WHY[dead[name][1]]}")
        for name, rows in given.items():
            if extra := sorted(rows & alive[name]):
                raise Wrong(f"Row {extra[0]} of {name!r} is not dead: its gradient is "
                            + ALIVE.get(name, "not zero."))
    return "no loss curve shows these: a dead row only adds to the parameter count."


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


def _tiny(seed, **changes):
    """A network of a few hundred parameters."""
    sizes = {"latent_dim": 8, "block_hidden": 8, "head_hidden": 8}
    return TinyRecursiveControl.create_two_level_small(seed=seed, **sizes | changes)


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
        (sum(weights.values()) + sum(biases.values()),
         "That is the number of parameters. Count matrices only, each as often as it is used."),
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
        if given % 1:
            raise Wrong(f"{given} is not a whole number; multiply-adds are counted.")
        if given != right:
            hint = dict(reversed(_miscounts(model, H, L))).get(given, (
                "Which parts run once a call, which once a cycle, and which in every inner step?"))
            raise Wrong(f"For H_cycles = {H}, L_cycles = {L} and a tiny model you count "
                        f"{given:,.0f}; counted while it runs: {right:,}. {hint}")
    return ("the same as counted while the network runs. The block's share grows with H_cycles · "
            "(L_cycles + 1): depth adds no parameters, but it adds work.")
