"""What people pass who mean something else: pools of bad, odd and extreme values."""

import decimal
import fractions
import math

import numpy as np
import torch

NUMBERS = (
    "", "3", "abc", b"3", None, True, False, math.nan, math.inf, -math.inf, -1, 0, -0.0, 1, 2, 3, 7.5, -2.5, 1e-300, 5e-324,
    1e-8, 1e-3, 1e8, 1e300, 1.7e308, 10**6, 2**31, 2**63, 2**64, 10**30, 10**400, -10**400, 1j, [], [1.0], (2,), {}, object(),
    np.float16(1.5), np.float32(0.3), np.float64(0.3), np.float64("nan"), np.int8(3), np.uint64(2**64 - 1), np.bool_(True),
    np.array([1.0, 2.0]), np.array(2.0), torch.tensor(2.0), torch.tensor(3), torch.ones(2), fractions.Fraction(1, 3),
    decimal.Decimal("1"))
WORDS = ("", "abc", "MSE", "все", "a" * 10_000, None, 0, math.nan, True, [], ["mse"], {}, object(), np.array(["a", "b"]),
         torch.ones(2), b"mse", 10**400)
OBJECTS = ("abc", 3, math.nan, True, [], {}, object(), object, np.ones(2), torch.ones(2), torch.nn.Linear(2, 2), lambda: None)
SWITCHES = ("yes", 0, 1, None, math.nan, [], np.bool_(True), torch.ones(2), object())
PATHS = ("", None, 3, math.nan, True, [], {}, object(), "no/such/file", "/dev/null", "/", "a" * 5000, "nul\0byte", b"bytes",
         np.ones(2))


def arrays(good):
    """Spoilt versions of a good array of floats, and things that are none."""
    good = torch.as_tensor(good, dtype=torch.float64)
    spoiled = good.clone()
    spoiled.view(-1)[0] = math.nan
    endless = good.clone()
    endless.view(-1)[-1] = -math.inf
    return (
        "abc", "", None, True, 3, math.nan, 10**400, [], [[]], {}, object(), [[1.0], [1.0, 2.0]], ["a", "b"], [None, None],
        np.array([object(), object()]), np.array(["a", "b"]), good.numpy().astype(object), good.numpy().astype(complex),
        good.numpy().astype("U8"), good.numpy() > 0, good.numpy().astype(np.int64), good.numpy().astype(np.float16),
        good.tolist(),
        spoiled, endless, spoiled.numpy(), good * 0, good * 1e-300, good * 1e100, good * 1e300, -good * 1e300, good + 1e16,
        torch.full_like(good, 1.7e308), good.int(), good.bool(), good.half(), good.bfloat16(), good.float(),
        good.to(torch.complex128),
        good[None], good[None, None], good[..., None], good[..., :-1], good[:0], good.flatten(), good[..., :0], torch.zeros(0),
        torch.tensor(1.0), good.requires_grad_(False).clone().requires_grad_(), good.to_sparse(), good.expand(3, *good.shape),
        good.flip(-1), [10**400], good.to("meta"))
