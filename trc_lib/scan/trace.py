"""What a function of small tensors does, as operations on single numbers.

The function is run once on example tensors, and every operation that reaches PyTorch's dispatcher
is noted. The numbers of a tensor have *slots*, kept in an integer tensor of the same shape: what
only moves numbers (indexing, transposing, stacking) is done to the slots by PyTorch itself, and
arithmetic becomes one operation for each number.
"""

import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

MOST_OPERATIONS = 8_000  # compiling them takes about five seconds


class NotTraceable(Exception):
    """The function does something that has no form as operations on single numbers."""


class _InPlace(NotTraceable):
    pass


@dataclasses.dataclass(frozen=True)
class Program:
    """A function as operations on single numbers.

    Attributes:
        arguments: how many numbers it takes; they have the slots 0, 1, ...
        constants: ``{slot: value}``.
        operations: slot of the result, name, and slots of the operands, in order.
        results: the slots of the numbers that it returns.
    """

    arguments: int
    constants: dict[int, float]
    operations: list[tuple[int, str, tuple[int, ...]]]
    results: list[int]


def trace(function: Callable, examples: list[Tensor]) -> Program:
    """The program of a function of tensors of one dtype that returns tensors of the same.

    Args:
        function: called with ``examples``; returns tensors, in nested tuples or lists.
        examples: of the shapes and the dtype that the program is for.

    Raises:
        NotTraceable: if it asks for values, is random, needs the gradient of a tensor that it
            holds, or uses an operation that is not known here.
    """
    try:
        return _run(function, examples)
    except _InPlace:  # PyTorch can write it without changes in place
        return _run(torch.func.functionalize(lambda *given: function(*given)), examples)


def in_pytorch(program: Program, arguments: list[Tensor], shapes: list[torch.Size]) -> list[Tensor]:
    """A program, run in PyTorch: for what cannot take the function that it was made of.

    Args:
        arguments: of any leading dimensions that broadcast, each flattened to one dimension after.
        shapes: of the results, after the leading dimensions.
    """
    numbers = [number for each in arguments for number in each.unbind(-1)]
    values = dict(enumerate(numbers)) | program.constants

    def tensor(slot):
        value = values[slot]
        return value if isinstance(value, Tensor) else torch.full_like(numbers[0], value)

    for slot, name, operands in program.operations:
        given = [values[operand] for operand in operands]
        if name not in OPERATORS or not any(isinstance(each, Tensor) for each in given):
            given = [tensor(operand) for operand in operands]
        values[slot] = IN_PYTORCH[name](*given)
    results = torch.broadcast_tensors(*(tensor(slot) for slot in program.results))
    results = torch.stack([each.to(numbers[0].dtype) for each in results], dim=-1)
    parts = results.split([shape.numel() for shape in shapes], dim=-1)
    return [part.unflatten(-1, shape) if shape else part[..., 0]
            for part, shape in zip(parts, shapes)]


def _run(function, examples):
    recorder = _Recorder(examples)
    try:
        with recorder, _NoReading(recorder):
            results = tree_leaves(function(*examples))
            slots = [recorder.slots(result).flatten().tolist() for result in results]
    except (NotTraceable, MemoryError):
        raise
    except Exception as error:  # of the function; the plain loop will tell it better
        raise NotTraceable(f"{type(error).__name__}: {error}") from error
    if any(result.dtype != recorder.dtype for result in results):
        raise NotTraceable(f"its results are not all {recorder.dtype}")
    return Program(sum(each.numel() for each in examples), recorder.constants,
                   recorder.operations, list(itertools.chain.from_iterable(slots)))


class _NoReading(TorchFunctionMode):
    """Refuses what reads values past PyTorch's dispatcher."""

    def __init__(self, recorder):
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        name = getattr(function, "__name__", "")
        if name in ("numpy", "tolist", "__array__", "__dlpack__", "data_ptr") and (
                id(arguments[0]) in self.recorder.followed):
            raise NotTraceable(f"it reads values by {name}, which PyTorch does not see")
        return function(*arguments, **(keywords or {}))


class _Recorder(TorchDispatchMode):
    """Notes the operations on the numbers of the examples and on all that is made of them."""

    def __init__(self, examples):
        super().__init__()
        self.dtype, self.count, self.followed = examples[0].dtype, 0, {}
        self.constants, self.known, self.operations, self.done = {}, {}, [], {}
        self.others = {}    # by their id, results that are not followed, such as pivots
        self.factored = {}  # by the id of a factor: see `_keep_factor`
        for example in examples:
            first, self.count = self.count, self.count + example.numel()
            self._follow(example, torch.arange(first, self.count).reshape(example.shape))

    @classmethod
    def _should_skip_dynamo(cls):
        return False  # else PyTorch imports its compiler at the first operation, which takes 1 s

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        keywords = keywords or {}
        given = map(id, tree_leaves((arguments, keywords)))
        followed = any(each in self.followed or each in self.others for each in given)
        if followed and not _is_known(operation) and operation in _decompositions():
            with self:  # as simpler operations
                return _decompositions()[operation](*arguments, **keywords)
        result = operation(*arguments, **keywords)
        if followed:
            self._note(operation, arguments, keywords, result)
        elif torch.Tag.nondeterministic_seeded in operation.tags:
            raise NotTraceable(f"{operation} is random")
        return result

    def _note(self, operation, arguments, keywords, result):
        name = operation.overloadpacket.__name__
        if name in OF_THE_SHAPE:
            return
        if name in IN_SHAPE_ALONE:
            name, operation = name[:-1], getattr(getattr(torch.ops.aten, name[:-1]),
                                                 operation._overloadname)
        if operation._schema.is_mutable:
            raise _InPlace(str(operation))
        if name in INDEXED and any(
                id(each) in self.followed or id(each) in self.others
                for each in tree_leaves((arguments[1:], keywords)) if isinstance(each, Tensor)):
            raise NotTraceable(f"{operation} takes values as indices")
        if name in MOVES:  # indices and masks stay what they are
            found = operation(*tree_map(self._slots_if_numbers, arguments),
                              **tree_map(self._slots_if_numbers, keywords))
        elif name in CONVERSIONS:
            found = self.slots(arguments[0])
            if result.dtype == torch.long and arguments[0].is_floating_point():
                raise NotTraceable("it rounds values to whole numbers")
            if result.dtype == torch.bool != arguments[0].dtype:
                found = self.each("ne", found, 0)
        elif name == "linalg_lu_solve":  # in the derivative of a solution
            _, matrix, of_transposed = self.factored[id(arguments[0])]
            transposed = keywords.get("adjoint", False) or True in arguments[4:]
            transposed = transposed != of_transposed
            found = self.solve(matrix.mT if transposed else matrix, self.slots(arguments[2]))
        elif name in RULES:
            if name == "_linalg_solve_ex":
                self._keep_factor(arguments[0], *result[1:3])
            arguments, keywords = tree_map(
                lambda each: self.slots(each) if isinstance(each, Tensor) else each,
                (arguments, keywords))
            if name == "add" and result.dtype == torch.bool:
                name = "logical_or"  # what the sum of two truths is in PyTorch
            found = RULES[name](self, *arguments, **keywords)
        elif name == "_local_scalar_dense":
            raise NotTraceable("it asks for a value, as `if` and `float` do; torch.where does not")
        else:
            raise NotTraceable(f"{operation} is not known here")
        values, found = tree_leaves(result), tree_leaves(found)
        for value, slots in zip(values, found):
            self._follow(value, slots)
        self.others |= {id(value): value for value in values[len(found):]}

    def _keep_factor(self, matrix, factor, pivots):
        """Remember what a factor is of: the matrix or, as PyTorch may prefer, its transpose."""
        with _disable_current_modes():
            back = functools.reduce(torch.matmul, torch.lu_unpack(factor, pivots))
            away, away_transposed = ((back - each).norm() for each in (matrix, matrix.mT))
        self.factored[id(factor)] = factor, self.slots(matrix), bool(away > away_transposed)

    def _slots_if_numbers(self, value):
        if not isinstance(value, Tensor) or not (
                id(value) in self.followed or id(value) in self.others
                or value.dtype.is_floating_point):
            return value
        return self.slots(value)

    def _follow(self, value, slots):
        if value.dtype not in (self.dtype, torch.bool, torch.long) or value.shape != slots.shape:
            raise NotTraceable(f"{value.dtype} {list(value.shape)}: needs {self.dtype} "
                               f"{list(slots.shape)}")
        self.followed[id(value)] = value, slots  # holds the value, so that its id stays its own

    def slots(self, value):
        """The slots of a tensor or a number; those of constants, if it is not followed."""
        if isinstance(value, Tensor):
            if id(value) in self.followed:
                return self.followed[id(value)][1]
            if id(value) in self.others:
                raise NotTraceable("it uses results of an operation that are not followed")
            if value.requires_grad:
                raise NotTraceable("the gradient of a tensor that it holds may be needed")
        with _disable_current_modes(), torch.no_grad():
            value = torch.as_tensor(value, dtype=None if isinstance(value, Tensor)
                                    else torch.float64)
            if value._is_zerotensor():  # has no storage
                value = torch.zeros(value.shape)
            return torch.tensor([self._constant(float(each)) for each in value.flatten().tolist()],
                                dtype=torch.long).reshape(value.shape)

    def _constant(self, value):
        key = repr(value)  # tells 0.0 from -0.0, and one NaN is as good as another
        if key not in self.known:
            self.known[key] = self.count
            self.constants[self.count] = value
            self.count += 1
        return self.known[key]

    def each(self, name, *operands):
        """Slots of the results of one operation on slots or numbers, which are broadcast."""
        operands = torch.broadcast_tensors(
            *(each if isinstance(each, Tensor) else self.slots(each) for each in operands))
        if len(self.operations) + operands[0].numel() > MOST_OPERATIONS:
            raise NotTraceable(f"it takes more than {MOST_OPERATIONS} operations")
        rows = zip(*(operand.flatten().tolist() for operand in operands))
        slots = [self._one(name, row) for row in rows]
        return torch.tensor(slots, dtype=torch.long).reshape(operands[0].shape)

    def _one(self, name, operands):
        """The slot of an operation's result: none that is there already, and none by zero or one.

        Derivatives multiply by many zeros and ones. Zero times infinity is zero here.
        """
        values = [self.constants.get(slot) for slot in operands]
        if name == "mul" and 0.0 in values:
            return operands[values.index(0.0)]
        if name in ("add", "mul") and (neutral := float(name == "mul")) in values:
            return operands[1 - values.index(neutral)]
        if (name == "sub" and values[1] == 0.0) or (name == "div" and values[1] == 1.0):
            return operands[0]
        if (name, operands) not in self.done:
            self.done[name, operands] = self.count
            self.operations.append((self.count, name, operands))
            self.count += 1
        return self.done[name, operands]

    def fold(self, slots, dims=None, keep=False, name="add"):
        """The sum over dimensions (all, if None or none are given), or another operation."""
        dims = range(slots.ndim) if dims is None or dims == [] else dims
        dims = [dim % slots.ndim for dim in ([dims] if isinstance(dims, int) else dims)]
        for dim in sorted(dims, reverse=True):
            first, *others = slots.unbind(dim)
            for other in others:
                first = self.each(name, first, other)
            slots = first.unsqueeze(dim) if keep else first
        return slots

    def product(self, left, right):
        """The matrix product of slots ``[..., i, j]`` and ``[..., j, k]``."""
        terms = self.each("mul", left[..., None], right[..., None, :, :])  # [..., i, j, k]
        return self.fold(terms, -2)

    def solve(self, matrix, right):
        """The solution of ``matrix x = right``, ``[..., n, n]`` and ``[..., n, k]``.

        Gaussian elimination; the larger of two pivots is brought up row by row.
        """
        rows = [list(row.unbind(-1)) for row in torch.cat([matrix, right], dim=-1).unbind(-2)]
        n = len(rows)
        for i in range(n):
            for j in range(i + 1, n):
                swap = self.each("gt", self.each("abs", rows[j][i]), self.each("abs", rows[i][i]))
                both = list(zip(rows[i], rows[j]))
                rows[i] = [self.each("where", swap, below, above) for above, below in both]
                rows[j] = [self.each("where", swap, above, below) for above, below in both]
                factor = self.each("div", rows[j][i], rows[i][i])
                rows[j] = [self.each("sub", below, self.each("mul", factor, above))
                           for above, below in zip(rows[i], rows[j])]
        for i in reversed(range(n)):
            for j in range(i + 1, n):
                rows[i][n:] = [self.each("sub", mine, self.each("mul", rows[i][j], known))
                               for mine, known in zip(rows[i][n:], rows[j][n:])]
            rows[i][n:] = [self.each("div", mine, rows[i][i]) for mine in rows[i][n:]]
        return torch.stack([torch.stack(row[n:], dim=-1) for row in rows], dim=-2)


# Operations that only move numbers; PyTorch does them to the slots.
MOVES = set("""view _unsafe_view reshape select slice unsqueeze squeeze permute transpose t expand
    cat stack clone detach alias contiguous split split_with_sizes unbind index index_select flip
    roll diagonal repeat narrow movedim view_as_real lift_fresh select_scatter slice_scatter
    diagonal_scatter unfold gather""".split())

# What they give depends on the shape and dtype of a tensor, not on its numbers.
OF_THE_SHAPE = set("""zeros_like ones_like full_like empty_like new_zeros new_ones new_full
    new_empty _efficientzerotensor fill _linalg_check_errors""".split())


INDEXED = ("index", "index_select", "gather")  # the first argument alone moves
CONVERSIONS = ("to", "_to_copy")

# They change the shape of a tensor in place, and none of its numbers.
IN_SHAPE_ALONE = ("squeeze_", "unsqueeze_", "transpose_", "t_")


def _is_known(operation):
    name = operation.overloadpacket.__name__
    known = MOVES, OF_THE_SHAPE, IN_SHAPE_ALONE, RULES, CONVERSIONS, ("linalg_lu_solve",)
    return operation._schema.is_mutable or any(name in names for names in known)


@functools.cache
def _decompositions():
    """PyTorch's own, of an operation as simpler ones."""
    return torch._decomp.core_aten_decompositions()


def _scaled(r, value, alpha):
    return value if alpha == 1 else r.each("mul", value, alpha)


def _power(r, base, exponent):
    if isinstance(exponent, Tensor):
        return r.each("pow", base, exponent)
    if exponent in (1, 2, 3):
        found = base
        for _ in range(int(exponent) - 1):
            found = r.each("mul", found, base)
        return found
    if exponent in (0.5, -1):
        return r.each("sqrt", base) if exponent == 0.5 else r.each("div", 1, base)
    return r.each("pow", base, exponent)


def _sigmoid(r, x):
    return r.each("div", 1, r.each("add", 1, r.each("exp", r.each("neg", x))))


def _quotient(r, x, y, rounding_mode=None):
    found = r.each("div", x, y)
    if rounding_mode == "trunc":
        return r.each("where", r.each("lt", found, 0), r.each("ceil", found),
                      r.each("floor", found))
    if rounding_mode == "floor":
        raise NotTraceable("aten.div with rounding_mode='floor' is not known here")
    return found


def _running(r, x, dim, name):
    first, *others = x.unbind(dim)
    found = [first]
    for other in others:
        found.append(r.each(name, found[-1], other))
    return torch.stack(found, dim)


def _remainder(r, x, y):
    rest = r.each("fmod", x, y)
    other_sign = r.each("logical_xor", r.each("lt", rest, 0), r.each("lt", y, 0))
    wrong = r.each("logical_and", other_sign, r.each("ne", rest, 0))
    return r.each("where", wrong, r.each("add", rest, y), rest)


def _softmax(r, x, dim, half_to_float=False):
    above = r.each("exp", r.each("sub", x, r.fold(x, dim, True, "maximum")))
    return r.each("div", above, r.fold(above, dim, True))


def _clamp(r, x, low=None, high=None):
    x = x if low is None else r.each("maximum", x, low)
    return x if high is None else r.each("minimum", x, high)


def _mean(r, x, dims=None, keep=False, dtype=None):
    total = r.fold(x, dims, keep)
    return r.each("div", total, x.numel() / total.numel())


def _norm(r, x, order=2, dims=None, keep=False, dtype=None):
    if order != 2:
        raise NotTraceable(f"a norm of order {order} is not known here")
    return r.each("sqrt", r.fold(r.each("mul", x, x), dims, keep))


def _placed(r, shape, place, slots):
    """Slots of zeros of a shape, in which ``slots`` stand at a place."""
    found = r.slots(torch.zeros(shape, dtype=torch.float64))
    place(found).copy_(slots)
    return found


ALONE = """neg abs sqrt exp log sin cos tan asin acos atan sinh cosh tanh floor ceil log1p expm1
    erf round logical_not""".split()
OF_TWO = """mul atan2 hypot fmod maximum minimum eq ne lt le gt ge logical_and logical_or
    logical_xor""".split()

RULES = {name: (lambda r, x, name=name: r.each(name, x)) for name in ALONE} | {
    name: (lambda r, x, y, name=name: r.each(name, x, y)) for name in OF_TWO} | {
    "add": lambda r, x, y, alpha=1: r.each("add", x, _scaled(r, y, alpha)),
    "sub": lambda r, x, y, alpha=1: r.each("sub", x, _scaled(r, y, alpha)),
    "rsub": lambda r, x, y, alpha=1: r.each("sub", y, _scaled(r, x, alpha)),
    "div": _quotient, "cumsum": lambda r, x, dim, dtype=None: _running(r, x, dim, "add"),
    "cumprod": lambda r, x, dim, dtype=None: _running(r, x, dim, "mul"),
    "reciprocal": lambda r, x: r.each("div", 1, x),
    "rsqrt": lambda r, x: r.each("div", 1, r.each("sqrt", x)),
    "square": lambda r, x: r.each("mul", x, x),
    "remainder": _remainder, "_softmax": _softmax, "pow": _power, "sigmoid": _sigmoid,
    "clamp": _clamp,
    "silu": lambda r, x: r.each("mul", x, _sigmoid(r, x)),
    "relu": lambda r, x: r.each("maximum", x, 0),
    "threshold_backward": lambda r, up, x, at: r.each("where", r.each("gt", x, at), up, 0),
    "tanh_backward": lambda r, up, y: r.each("mul", up, r.each("sub", 1, r.each("mul", y, y))),
    "sigmoid_backward": lambda r, up, y: r.each(
        "mul", r.each("mul", up, r.each("sub", 1, y)), y),
    "clamp_min": lambda r, x, low: _clamp(r, x, low),
    "clamp_max": lambda r, x, high: _clamp(r, x, None, high),
    "sign": lambda r, x: r.each("where", r.each("gt", x, 0), 1,
                                r.each("where", r.each("lt", x, 0), -1, 0)),
    "sgn": lambda r, x: RULES["sign"](r, x),
    "bitwise_and": lambda r, x, y: r.each("logical_and", x, y),
    "bitwise_or": lambda r, x, y: r.each("logical_or", x, y),
    "bitwise_not": lambda r, x: r.each("logical_not", x),
    "where": lambda r, which, x, y: r.each("where", which, x, y),
    "copy": lambda r, before, after, non_blocking=False: after.expand(before.shape),
    "masked_fill": lambda r, x, which, value: r.each("where", which, value, x),
    "isnan": lambda r, x: r.each("ne", x, x),
    "sum": lambda r, x, dims=None, keep=False, dtype=None: r.fold(x, dims, keep),
    "amax": lambda r, x, dims=(), keep=False: r.fold(x, list(dims), keep, "maximum"),
    "amin": lambda r, x, dims=(), keep=False: r.fold(x, list(dims), keep, "minimum"),
    "prod": lambda r, x, dim=None, keep=False, dtype=None: r.fold(x, dim, keep, "mul"),
    "any": lambda r, x, dims=None, keep=False: r.fold(x, dims, keep, "logical_or"),
    "all": lambda r, x, dims=None, keep=False: r.fold(x, dims, keep, "logical_and"),
    "mean": _mean, "linalg_vector_norm": _norm,
    "mm": lambda r, x, y: r.product(x, y), "bmm": lambda r, x, y: r.product(x, y),
    "mv": lambda r, x, y: r.product(x, y[:, None])[:, 0],
    "dot": lambda r, x, y: r.fold(r.each("mul", x, y)),
    "addmm": lambda r, more, x, y, beta=1, alpha=1: r.each(
        "add", _scaled(r, more, beta), _scaled(r, r.product(x, y), alpha)),
    "_linalg_solve_ex": lambda r, A, b, left=True, check_errors=False: [
        r.solve(A, b[..., None])[..., 0] if b.ndim == 1 else r.solve(A, b)],
    "linalg_inv_ex": lambda r, A, check_errors=False: [
        r.solve(A, r.slots(torch.eye(A.shape[-1]).expand(A.shape)))],
    "select_backward": lambda r, up, shape, dim, at: _placed(
        r, shape, lambda zeros: zeros.select(dim, at), up),
    "slice_backward": lambda r, up, shape, dim, first, last, step: _placed(
        r, shape, lambda zeros: torch.ops.aten.slice(zeros, dim, first, last, step), up),
    "diagonal_backward": lambda r, up, shape, offset, dim1, dim2: _placed(
        r, shape, lambda zeros: zeros.diagonal(offset, dim1, dim2), up),
    "diag_embed": lambda r, x, offset=0, dim1=-2, dim2=-1: _placed(
        r, x.diag_embed(offset, dim1, dim2).shape,
        lambda zeros: zeros.diagonal(offset, dim1, dim2), x),
}

OPERATORS = {name: getattr(operator, {"div": "truediv"}.get(name, name))
             for name in "add sub mul div eq ne lt le gt ge".split()}  # also of a plain number
IN_PYTORCH = {name: getattr(torch, name) for name in ALONE + OF_TWO} | OPERATORS | {
    "pow": torch.pow, "erf": torch.special.erf,
    "where": lambda which, x, y: torch.where(which.to(torch.bool), x, y)}
