"""Quadratic costs: which weights are accepted, and of what the cost is differentiable."""

import numpy as np
import pytest
import torch

from trc_lib.costs import QuadraticCost
from trc_lib.systems import DoubleIntegrator, VanDerPol

CART = DoubleIntegrator()
COST = QuadraticCost(torch.eye(2).double(), [[0.1]], torch.eye(2).double())


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_weight_of_low_rank_is_accepted_though_rounding_makes_an_eigenvalue_negative(scale):
    rng, negative = np.random.default_rng(0), 0
    for _ in range(50):
        M = rng.normal(size=(2, 4))
        Q = scale * M.T @ M
        negative += np.linalg.eigvalsh(Q)[0] < 0
        accepted = QuadraticCost(Q, [[1.0]], Q).Q
        np.testing.assert_allclose(accepted, Q, rtol=1e-12, atol=1e-12 * scale)
    assert negative > 10


@pytest.mark.parametrize(("Q", "R", "message"), [
    (np.diag([1.0, -1e-9]), [[1.0]], "Q has the eigenvalue -1e-09; needs none below zero"),
    (np.eye(2), np.diag([1.0, 1e-14]), "R has the eigenvalue 1e-14; needs all above zero"),
    ([[1.0, 1e-9], [0.0, 1.0]], [[1.0]], "Q=.* is not accepted; needs a symmetric matrix"),
    (np.ones((2, 3)), [[1.0]], "Q=.* is not accepted; needs a symmetric matrix")])
def test_a_weight_that_is_wrong_by_more_than_rounding_is_refused(Q, R, message):
    with pytest.raises(ValueError, match=message):
        QuadraticCost(Q, R, Q)


def plain(system, x0, u, xT):
    """The cost without the adjoint: autograd through the roll-out."""
    return COST.total(system.rollout_unchecked(x0, u), u, xT)


@pytest.mark.parametrize("system", [CART, VanDerPol()], ids=["cart", "oscillator"])
def test_first_and_second_derivatives_are_those_of_the_rollout(system):
    g = torch.Generator().manual_seed(0)
    x0, xT = torch.randn(2, 2, generator=g, dtype=torch.float64)
    u = torch.randn(6, 1, generator=g, dtype=torch.float64)
    ours, wanted = (torch.autograd.functional.hessian(
        lambda x0, u, xT, cost=cost: cost(system, x0, u, xT), (x0, u, xT))
        for cost in (COST.of_controls, plain))
    for i in range(3):
        for j in range(3):
            torch.testing.assert_close(ours[i][j], wanted[i][j], rtol=1e-9, atol=1e-9)
    assert float(ours[1][1].norm()) > 0.1
    ours, wanted = (torch.autograd.functional.jacobian(
        lambda x0, u, xT, cost=cost: cost(system, x0, u, xT), (x0, u, xT))
        for cost in (COST.of_controls, plain))
    for one, other in zip(ours, wanted):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("moving", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_a_batch_has_a_gradient_in_whatever_requires_one(moving):
    values = [torch.ones(4, 2).double(), torch.ones(4, 5, 1).double(), torch.zeros(4, 2).double()]
    both = []
    for cost in (COST.of_controls, plain):
        inputs = [value.clone().requires_grad_(i in moving) for i, value in enumerate(values)]
        cost(CART, *inputs).sum().backward()
        both.append([value.grad for value in inputs])
    for i, (one, other) in enumerate(zip(*both)):
        assert (one is None) == (i not in moving)
        if one is not None:
            torch.testing.assert_close(one, other)
