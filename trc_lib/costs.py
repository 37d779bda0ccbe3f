"""Quadratic costs of a trajectory, and their gradient in the controls."""

import torch
from jaxtyping import Float
from torch import Tensor

from trc_lib import validation
from trc_lib.rebuild import Rebuildable
from trc_lib.scan import as_batch, common, from_batch, scan
from trc_lib.systems.system import Controls, State, States, System
from trc_lib.validation import ArrayLike


class QuadraticCost(Rebuildable):
    """The sum of (x - xT)' Q (x - xT) + u' R u over all steps, and (x_N - xT)' Q_final (x_N - xT).

    Args:
        Q, Q_final: ``[state_dim, state_dim]``, symmetric, positive semidefinite.
        R: ``[control_dim, control_dim]``, symmetric, positive definite.

    Raises:
        ValueError: if a matrix is not such.
    """

    def __init__(self, Q: ArrayLike, R: ArrayLike, Q_final: ArrayLike):
        self.Q, self.R = _weight("Q", Q), _weight("R", R, definite=True)
        self.Q_final = _weight("Q_final", Q_final)
        if self.Q.shape != self.Q_final.shape:
            raise ValueError(f"Q_final has shape {list(self.Q_final.shape)}; "
                             f"needs that of Q, {list(self.Q.shape)}")

    def check_fit(self, system: System) -> None:
        """Raise a ValueError if ``system`` has other numbers of states or controls."""
        sizes = (len(self.Q), len(self.R))
        if sizes != (system.state_dim, system.control_dim):
            raise ValueError(f"cost is for {sizes[0]} states and {sizes[1]} controls; "
                             f"system={system!r} needs another")

    def total(self, states: States, controls: Controls,
              target_state: State) -> Float[Tensor, "..."]:
        """The cost of trajectories, ``[...]``.

        Args:
            states: ``[..., horizon + 1, state_dim]``.
            controls: ``[..., horizon, control_dim]``.
            target_state: ``[..., state_dim]``.
        """
        off = states - target_state[..., None, :]
        running = _quadratic(off[..., :-1, :], self.Q).sum(dim=-1)
        return (running + _quadratic(controls, self.R).sum(dim=-1)
                + _quadratic(off[..., -1, :], self.Q_final))

    def of_controls(self, system: System, initial_state: State, controls: Controls,
                    target_state: State) -> Float[Tensor, "..."]:
        """`total` of the trajectories that ``controls`` lead through, ``[...]``. Differentiable."""
        states = system.rollout_unchecked(initial_state, controls)
        return self.total(states, controls, target_state)

    def gradient(self, system: System, states: States, controls: Controls,
                 target_state: State) -> Controls:
        """d total / d controls, ``[..., horizon, control_dim]``, by one sweep backwards in time.

        ``states`` are those that ``controls`` lead through. The result is not differentiable.
        """
        A, B = system.jacobians(states[..., :-1, :], controls)      # [..., N, n, n], [..., N, n, m]
        off = states - target_state[..., None, :]
        running = 2 * off[..., :-1, :] @ self.Q.to(off)             # d running cost / d x_k
        adjoint = 2 * off[..., -1, :] @ self.Q_final.to(off)        # d total / d x_N
        leading = common(A.shape[:-3], running.shape[:-2])
        given = [as_batch(A, leading, 3), as_batch(running, leading, 2)]
        (adjoints,), _ = scan(_adjoint_step, [as_batch(adjoint, leading, 1)], given, reverse=True)
        adjoints = from_batch(adjoints[:, 1:], leading)              # [..., N, n]
        return 2 * controls @ self.R.to(controls) + (B.mT @ adjoints[..., None])[..., 0]


def _adjoint_step(carry, inputs, constants):
    """From d total / d x_(k+1) to d total / d x_k."""
    (adjoint,), (A, own) = carry, inputs
    return [own + (A.mT @ adjoint[..., None])[..., 0]], []


def _weight(name, value, definite=False):
    """A weight matrix, float64; refused if not symmetric and (semi)definite up to rounding."""
    matrix = validation.array(name, value, (None, None), torch.float64).detach().cpu().clone()
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    slack = 1e-12 * float(matrix.abs().max()) if matrix.numel() else 0.0
    if not square or float((matrix - matrix.T).abs().max()) > slack:
        raise ValueError(f"{name}={matrix.tolist()} is not accepted; needs a symmetric matrix")
    matrix = (matrix + matrix.T) / 2
    smallest = float(torch.linalg.eigvalsh(matrix)[0])
    if smallest < -slack or (definite and smallest <= slack):
        raise ValueError(f"{name} has the eigenvalue {smallest:g}; "
                         f"needs {'all above zero' if definite else 'none below zero'}")
    return matrix


def _quadratic(value, weight):
    return ((value @ weight.to(value)) * value).sum(dim=-1)
