"""What it costs: quadratic costs of a trajectory, and their gradient in the controls."""

import torch

from trc_lib import validation


class QuadraticCost:
    """The sum over all steps of (x - xT)' Q (x - xT) + u' R u, and (x_N - xT)' Q_final (x_N - xT) for the last state.

    Args:
        Q, Q_final: ``[state_dim, state_dim]``, symmetric, no eigenvalue below zero.
        R: ``[control_dim, control_dim]``, symmetric, all eigenvalues above zero.

    Raises:
        ValueError: if a matrix is not such.
    """

    def __init__(self, Q, R, Q_final):
        self.Q, self.R, self.Q_final = _weight("Q", Q), _weight("R", R, definite=True), _weight("Q_final", Q_final)
        if self.Q.shape != self.Q_final.shape:
            raise ValueError(f"Q_final has shape {list(self.Q_final.shape)}; needs that of Q, {list(self.Q.shape)}")

    def check_fit(self, system):
        """Raise a ValueError if ``system`` has other numbers of states or controls."""
        sizes = (len(self.Q), len(self.R))
        if sizes != (system.state_dim, system.control_dim):
            raise ValueError(f"cost is for {sizes[0]} states and {sizes[1]} controls; system={system!r} needs another")

    def contents(self):
        """The three matrices, for files."""
        return {"Q": self.Q, "R": self.R, "Q_final": self.Q_final}

    def total(self, states, controls, target_state):
        """The cost of trajectories, ``[...]``.

        Args:
            states: ``[..., horizon + 1, state_dim]``.
            controls: ``[..., horizon, control_dim]``.
            target_state: ``[..., state_dim]``.
        """
        off = states - target_state[..., None, :]
        return (_quadratic(off[..., :-1, :], self.Q).sum(dim=-1) + _quadratic(controls, self.R).sum(dim=-1)
                + _quadratic(off[..., -1, :], self.Q_final))

    def of_controls(self, system, initial_state, controls, target_state):
        """`total` of the trajectories that ``controls`` lead through, ``[...]``; differentiable in them, by the adjoint."""
        return _TotalOfControls.apply(controls, initial_state, target_state, system, self)

    def gradient(self, system, states, controls, target_state):
        """d total / d controls, ``[..., horizon, control_dim]``, by the adjoint: one sweep backwards through the steps.

        ``states`` are those that ``controls`` lead through. Nothing here is differentiable or waits for the device.
        """
        A, B = system.jacobians(states[..., :-1, :], controls)                            # [..., N, n, n], [..., N, n, m]
        off = states - target_state[..., None, :]
        slopes = 2 * off[..., :-1, :] @ self.Q.to(off)                                    # of the running cost in the states
        adjoint = 2 * off[..., -1, :] @ self.Q_final.to(off)                              # d total / d x_N
        adjoints = []
        for transposed, slope in zip(A.mT.unbind(-3)[::-1], slopes.unbind(-2)[::-1]):
            adjoints.append(adjoint)                                                      # d total / d x_(k+1)
            adjoint = slope + (transposed @ adjoint[..., None])[..., 0]
        adjoints = torch.stack(adjoints[::-1], dim=-2)                                    # [..., N, n]
        return 2 * controls @ self.R.to(controls) + (B.mT @ adjoints[..., None])[..., 0]


class _TotalOfControls(torch.autograd.Function):
    """The cost as a function of the controls: autograd would keep and retrace every operation of the roll-out."""

    @staticmethod
    def forward(ctx, controls, initial_state, target_state, system, cost):
        states = system.rollout_unchecked(initial_state, controls)
        ctx.save_for_backward(states, controls, target_state)
        ctx.system, ctx.cost = system, cost
        return cost.total(states, controls, target_state)

    @staticmethod
    def backward(ctx, slope):
        states, controls, target_state = ctx.saved_tensors
        return slope[..., None, None] * ctx.cost.gradient(ctx.system, states, controls, target_state), None, None, None, None


def _weight(name, value, definite=False):
    matrix = validation.array(name, value, (None, None), torch.float64).detach().cpu().clone()
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not torch.equal(matrix, matrix.T):
        raise ValueError(f"{name}={matrix.tolist()} is not accepted; needs a symmetric matrix")
    smallest = float(torch.linalg.eigvalsh(matrix)[0])
    if smallest < 0 or (definite and smallest <= 0):
        raise ValueError(f"{name} has the eigenvalue {smallest:g}; needs {'all above zero' if definite else 'none below zero'}")
    return matrix


def _quadratic(value, weight):
    return ((value @ weight.to(value)) * value).sum(dim=-1)
