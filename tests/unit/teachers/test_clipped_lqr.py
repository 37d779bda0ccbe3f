"""The clipped regulator is SciPy's, cut at the limits, along the true trajectory."""

import numpy as np
import pytest
import scipy.linalg
import torch

from trc_lib.costs import QuadraticCost
from trc_lib.systems import DoubleIntegrator
from trc_lib.teachers import ClippedLQR


@pytest.mark.parametrize("limit", [None, 0.5, [[-0.1, 0.6]], [[0.05, np.inf]]], ids=str)
def test_the_law_is_that_of_the_riccati_equation_cut_at_the_limits(limit):
    system = DoubleIntegrator(0.2, control_limit=limit)
    Q, R = np.diag([1.0, 0.2]), np.array([[0.3]])
    law = ClippedLQR(system, 30, QuadraticCost(Q, R, Q))
    A, B = system.A.numpy(), system.B.numpy()
    P = scipy.linalg.solve_discrete_are(A, B, Q, R)
    K = np.linalg.inv(R + B.T @ P @ B) @ B.T @ P @ A
    low, high = (bound.item() for bound in system.bounds)
    x, target, expected = np.array([2.0, -1.0]), np.array([-0.5, 0.0]), []
    for _ in range(30):
        expected.append(np.clip(-K @ (x - target), low, high))
        x = A @ x + B @ expected[-1]
    found = law.solve(torch.tensor([2.0, -1.0]), torch.from_numpy(target).float())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
