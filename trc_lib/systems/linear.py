"""Linear systems: one matrix product gives all states at once."""

import torch

from trc_lib import validation
from trc_lib.systems.system import System

LARGEST_MAP = 10**8  # numbers in the matrices of `prediction_matrices`: 0.8 GB in float64


class LinearSystem(System):
    """A linear system in discrete time, x[k+1] = A x[k] + B u[k].

    Args:
        A: state matrix, ``[state_dim, state_dim]``.
        B: control matrix, ``[state_dim, control_dim]``.
        dt: seconds that one step lasts.
        control_limit: the largest |u|: a number, or one for each control; None for no limit.

    Raises:
        ValueError: if a shape does not fit, a value is not finite, or ``dt`` is not above zero.
    """

    kind = "LinearSystem"

    def __init__(self, A, B, dt, control_limit=None):
        self.A = validation.array("A", A, (None, None), torch.float64).detach().cpu().clone()
        self.B = validation.array("B", B, (None, None), torch.float64).detach().cpu().clone()
        if self.A.ndim != 2 or self.A.shape[0] != self.A.shape[1] or not self.A.numel():
            raise ValueError(f"A has shape {list(self.A.shape)}; needs [state_dim, state_dim]")
        if self.B.ndim != 2 or self.B.shape[0] != self.A.shape[0] or not self.B.numel():
            raise ValueError(f"B has shape {list(self.B.shape)}; needs [{self.A.shape[0]}, control_dim]")
        super().__init__(*self.B.shape, dt, control_limit)
        self._maps = {}  # (horizon, dtype, device) -> the two matrices of `prediction_matrices`

    def contents(self):
        limit = {} if self.control_limit is None else {"control_limit": self.control_limit}
        return {"A": self.A, "B": self.B, "dt": self.dt} | limit

    def dynamics(self, state, control):
        return state @ self.A.T.to(state) + control @ self.B.T.to(control)

    def jacobians(self, state, control):
        leading = torch.broadcast_shapes(state.shape[:-1], control.shape[:-1])
        return self.A.to(state).expand(*leading, -1, -1), self.B.to(state).expand(*leading, -1, -1)

    def prediction_matrices(self, horizon, like=None):
        """The matrices that give all states at once: x[k] = F[k] x[0] + G[k] u.

        Args:
            horizon: number of steps N.
            like: a tensor whose dtype and device the matrices shall have; float64 on the CPU if None.

        Returns:
            F ``[N + 1, state_dim, state_dim]`` and G ``[N + 1, state_dim, N * control_dim]``,
            where u is the whole control sequence laid end to end. They are kept and shared: do not change them.

        Raises:
            ValueError: if the horizon is so long that the matrices would fill the memory.
        """
        horizon = validation.whole("horizon", horizon)
        if horizon**2 * self.state_dim * self.control_dim > LARGEST_MAP:
            longest = int((LARGEST_MAP / self.state_dim / self.control_dim) ** 0.5)
            raise ValueError(f"horizon={horizon} is too long; with this system at most {longest} steps are accepted")
        like = self.A if like is None else like
        key = (horizon, like.dtype, like.device)
        if key not in self._maps:
            F = [torch.eye(self.state_dim, dtype=torch.float64)]
            G = [torch.zeros(self.state_dim, horizon * self.control_dim, dtype=torch.float64)]
            for k in range(horizon):
                F.append(self.A @ F[-1])
                G.append(self.A @ G[-1])
                G[-1][:, k * self.control_dim:(k + 1) * self.control_dim] = self.B
            self._maps[key] = torch.stack(F).to(like), torch.stack(G).to(like)
        return self._maps[key]

    def controllability_matrix(self, horizon):
        """C = [A^(N-1) B, ..., A B, B], ``[state_dim, horizon * control_dim]``, float64.

        The last state is x[N] = A^N x[0] + C u.
        """
        return self.prediction_matrices(horizon)[1][-1].clone()

    def rollout_unchecked(self, initial_state, controls):
        """`rollout` without its checks, by one matrix product and no loop over time.

        On a GPU in float64: training may set TF32 for matrix products, which would leave three digits of where the controls end.
        """
        exact = torch.float64 if controls.is_cuda else controls.dtype
        initial_state, u = initial_state.to(exact), controls.to(exact)
        F, G = self.prediction_matrices(controls.shape[-2], like=u)
        free = torch.einsum("kij,...j->...ki", F, initial_state)    # [..., N+1, state_dim]
        forced = torch.einsum("kij,...j->...ki", G, u.flatten(-2))  # [..., N+1, state_dim]
        return (free + forced).to(controls.dtype)


class DoubleIntegrator(LinearSystem):
    """A cart on a frictionless track: state [position (m), velocity (m/s)], control acceleration (m/s^2).

    The acceleration is held over each step, which makes the step exact:
    [p, v] -> [p + v dt + u dt^2 / 2, v + u dt].
    """

    def __init__(self, dt=0.33, control_limit=None):
        dt = validation.positive("dt", dt)
        if not 1e-150 < dt < 1e150:
            raise ValueError(f"dt={dt:g} is not accepted; its square leaves the range of float64")
        super().__init__(A=[[1.0, dt], [0.0, 1.0]], B=[[dt**2 / 2], [dt]], dt=dt, control_limit=control_limit)
