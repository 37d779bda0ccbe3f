"""Every operation that a step may use, compiled, against PyTorch."""

import pytest
import torch
import torch.nn.functional as F

from trc_lib.scan import _Pullback, plain_scan, scan
from trc_lib.scan.compiled import compiled_scan
from trc_lib.scan.trace import RULES

F64 = torch.float64
SPECIAL = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e-9, 700.0, -700.0, torch.inf,
                        -torch.inf, torch.nan], dtype=F64)

OF_ONE = {name: getattr(torch, name) for name in """neg abs sqrt rsqrt exp log log1p expm1 sin cos
    tan asin acos atan sinh cosh tanh floor ceil erf reciprocal square sign sigmoid
    relu round""".split()} | {
    "power 2": lambda x: x**2, "power 3": lambda x: x**3, "power 0.5": lambda x: x**0.5,
    "power -1": lambda x: x**-1, "power 1.7": lambda x: x**1.7, "power -2": lambda x: x**-2,
    "silu": F.silu, "clamp": lambda x: x.clamp(-0.5, 2.0),
    "clamp below": lambda x: x.clamp(min=0.1),
    "clamp above": lambda x: x.clamp(max=0.1), "minus": lambda x: 2 - x, "over": lambda x: 2 / x,
    "isnan": lambda x: x.isnan().to(x.dtype), "not": lambda x: (~(x > 0)).to(x.dtype),
    "to bool": lambda x: torch.where(x.to(torch.bool), 2.0, x), "rounding twice": lambda x: x * 0.1,
    "masked_fill": lambda x: x.masked_fill(x > 1, 7.0), "zeros": lambda x: x + torch.zeros_like(x)}
OF_TWO = {name: getattr(torch, name) for name in """add sub mul div atan2 maximum minimum pow hypot
    fmod remainder
    """.split()} | {
    "where": lambda x, y: torch.where((x > y) & ~(x == 1) | (y < 0), x, 3 * y),
    "scaled sum": lambda x, y: torch.add(x, y, alpha=0.3), "xor": lambda x, y: (
        torch.logical_xor(x > 0, y > 0) | (x >= y)).to(x.dtype),
    "compared": lambda x, y: sum((way(x, y).to(x.dtype) * i for i, way in enumerate(
        (torch.eq, torch.ne, torch.lt, torch.le, torch.gt, torch.ge), 1)), 0 * torch.ones_like(x))}
OF_VECTORS = {
    "sum": lambda x: x.sum(-1, keepdim=True), "mean": lambda x: x.mean(-1, keepdim=True),
    "norm": lambda x: x.norm(dim=-1, keepdim=True), "amax": lambda x: x.amax(-1, keepdim=True),
    "vector norm": lambda x: torch.linalg.vector_norm(x, dim=-1, keepdim=True),
    "amin": lambda x: x.amin(-1, keepdim=True), "prod": lambda x: x.prod(-1, keepdim=True),
    "flip": lambda x: x.flip(-1), "roll": lambda x: x.roll(1, -1),
    "index": lambda x: x[..., [2, 0, 0]],
    "outer": lambda x: x[..., :, None] * x[..., None, :], "cross": lambda x: torch.stack(
        [x[..., 1] * x[..., 2], x[..., 0] - x[..., 2]], dim=-1),
    "diagonal": lambda x: torch.diag_embed(x) @ x[..., None],
    "matrix": lambda x: x @ torch.arange(6, dtype=x.dtype).reshape(3, 2),
    "cat": lambda x: torch.cat([x[..., 1:], torch.ones_like(x[..., :1])], dim=-1),
    "einsum": lambda x: torch.einsum("...i,...j->...ij", x, x),
    "chunk": lambda x: x.chunk(3, -1)[1],
    "solve": lambda x: torch.linalg.solve(
        torch.diag_embed(x * x + 20) + torch.arange(9, dtype=x.dtype).reshape(3, 3), x),
    "cumsum": lambda x: x.cumsum(-1), "cumprod": lambda x: x.cumprod(-1),
    "softmax": lambda x: x.softmax(-1), "softplus": F.softplus,
    "cross product": lambda x: torch.linalg.cross(x, x.flip(-1)),
    "softmax by hand": lambda x: x.exp() / x.exp().sum(-1, keepdim=True)}


def compared(function, given, near):
    def step(carry, inputs, constants):
        return [], [function(*inputs)]

    assert compiled_scan(step, ([], given, [])) is not None
    (found,), (right,) = scan(step, [], given)[1], plain_scan(step, [], given)[1]
    torch.testing.assert_close(found, right, rtol=near, atol=near, equal_nan=True)


@pytest.mark.parametrize("dtype, near", [(F64, 1e-13), (torch.float32, 2e-6)])
@pytest.mark.parametrize("name", OF_ONE)
def test_functions_of_one_number(name, dtype, near):
    numbers = torch.cat([SPECIAL, torch.randn(30, dtype=F64)]).to(dtype)
    compared(OF_ONE[name], [numbers[:, None, None]], near)


@pytest.mark.parametrize("dtype, near", [(F64, 1e-13), (torch.float32, 2e-6)])
@pytest.mark.parametrize("name", OF_TWO)
def test_functions_of_two_numbers(name, dtype, near):
    pairs = torch.cartesian_prod(SPECIAL, SPECIAL).to(dtype)
    compared(OF_TWO[name], [pairs[:, None, :1].contiguous(), pairs[:, None, 1:].contiguous()], near)


@pytest.mark.parametrize("name", OF_VECTORS)
def test_functions_of_vectors(name):
    compared(OF_VECTORS[name], [torch.randn(20, 2, 3, dtype=F64)], 1e-12)


@pytest.mark.parametrize("name", [*OF_ONE, *OF_TWO, *OF_VECTORS])
def test_their_derivatives(name):
    function = (OF_ONE | OF_TWO | OF_VECTORS)[name]

    def step(carry, inputs, constants):
        return [], [function(*inputs)]

    count = 2 if name in OF_TWO else 1
    given = [0.9 * torch.rand(6, 2, 3, dtype=F64) + 0.05 for _ in range(count)]
    given = [each.requires_grad_() for each in given]
    (found,), (right,) = scan(step, [], given)[1], plain_scan(step, [], given)[1]
    assert torch.allclose(found, right)
    if right.requires_grad:
        for mine, other in zip(torch.autograd.grad(found.square().sum(), given),
                               torch.autograd.grad(right.square().sum(), given), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", sorted(
    {*OF_ONE, *OF_TWO, *OF_VECTORS} - {"index", "isnan", "cumprod", "remainder"}))
def test_their_derivatives_are_compiled_too(name):
    function = (OF_ONE | OF_TWO | OF_VECTORS)[name]

    def step(carry, inputs, constants):
        return [], [function(*inputs)]

    given = [torch.rand(8, 2, 3, dtype=F64)] * (2 if name in OF_TWO else 1)
    (put,) = scan(step, [], given)[1]
    groups = [], [*given, torch.ones_like(put)], []
    assert compiled_scan(_Pullback(step, 0, len(given)), groups) is not None


def test_the_operations_of_the_table_are_those_of_this_pytorch():
    assert [name for name in RULES if not hasattr(torch.ops.aten, name)] == []
