"""Who else could do it: rivals that are trained on the same data."""

import torch

from trc_lib import checking


class LinearMap:
    """The least-squares map [x0, xT] -> u: for the double integrator one 4 x 15 matrix, 60 numbers.

    Args:
        dataset: an `LQRDataset` to fit.
    """

    def __init__(self, dataset):
        self.state_dim = dataset.initial_states.shape[1]
        problems = torch.cat([dataset.initial_states, dataset.target_states], dim=1)          # [n, 2 * state_dim]
        self.weights = torch.linalg.lstsq(problems, dataset.controls.flatten(1)).solution     # [2 * state_dim, N * m]
        self.shape = tuple(dataset.controls.shape[1:])

    @property
    def num_parameters(self):
        return self.weights.numel()

    def solve(self, initial_state, target_state):
        """Controls ``[..., horizon, control_dim]``, float64: a teacher's interface."""
        initial_state, target_state = checking.state_pair(initial_state, target_state, self.state_dim)
        problem = torch.cat([initial_state, target_state], dim=-1)                           # [..., 2 * state_dim]
        return (problem @ self.weights.to(problem.device)).unflatten(-1, self.shape)
