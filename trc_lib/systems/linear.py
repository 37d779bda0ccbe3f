"""Linear systems: one matrix product gives all states at once."""

import torch
from jaxtyping import Float
from torch import Tensor

from trc_lib import validation
from trc_lib.systems.system import Control, Controls, Jacobians, State, States, System
from trc_lib.validation import ArrayLike, Number, Whole

LARGEST_MAP = 10**8  # numbers in the matrices of `prediction_matrices`: 0.8 GB in float64


class LinearSystem(System):
    """A linear system in discrete time, x[k+1] = A x[k] + B u[k].

    Args:
        A: state matrix, ``[state_dim, state_dim]``.
        B: control matrix, ``[state_dim, control_dim]``.
        dt, control_limit, labels: as in `System`.

    Raises:
        ValueError: if a shape does not fit, or a value is not finite.
    """

    def __init__(self, A: ArrayLike, B: ArrayLike, dt: Number, control_limit: object = None,
                 labels: object = None):
        self.A, self.B = (
            validation.array(name, value, (None, None), torch.float64).detach().cpu().clone()
            for name, value in (("A", A), ("B", B)))
        if self.A.ndim != 2 or self.A.shape[0] != self.A.shape[1] or not self.A.numel():
            raise ValueError(f"A has shape {list(self.A.shape)}; needs [state_dim, state_dim]")
        if self.B.ndim != 2 or self.B.shape[0] != self.A.shape[0] or not self.B.numel():
            raise ValueError(f"B has shape {list(self.B.shape)}; "
                             f"needs [{self.A.shape[0]}, control_dim]")
        super().__init__(*self.B.shape, dt, control_limit, labels)
        self._maps = {}  # (horizon, dtype, device) -> the two matrices of `prediction_matrices`

    def dynamics(self, state: State, control: Control) -> State:
        return state @ self.A.T.to(state) + control @ self.B.T.to(control)

    def jacobians(self, state: State, control: Control) -> Jacobians:
        leading = torch.broadcast_shapes(state.shape[:-1], control.shape[:-1])
        A, B = self.A.to(state), self.B.to(state)
        return A.expand(*leading, -1, -1), B.expand(*leading, -1, -1)

    def _dynamics_identity(self) -> object:
        return type(self), self.A.numpy().tobytes(), self.B.numpy().tobytes(), self.B.shape

    def prediction_matrices(self, horizon: Whole, like: Tensor | None = None) -> tuple[
            Float[Tensor, "steps state_dim state_dim"],
            Float[Tensor, "steps state_dim horizon_times_control_dim"]]:
        """The matrices that give all states at once: x[k] = F[k] x[0] + G[k] u.

        Args:
            horizon: number of steps N.
            like: a tensor whose dtype and device they get; float64 on the CPU if None.

        Returns:
            F ``[N + 1, state_dim, state_dim]`` and G ``[N + 1, state_dim, N * control_dim]``, where
            u is the control sequence laid end to end. They are cached: do not change them.

        Raises:
            ValueError: if the horizon is so long that the matrices would fill the memory.
        """
        horizon = validation.whole("horizon", horizon)
        n, m = self.state_dim, self.control_dim
        if horizon**2 * n * m > LARGEST_MAP:
            raise ValueError(f"horizon={horizon} is too long; with this system at most "
                             f"{int((LARGEST_MAP / n / m) ** 0.5)} steps are accepted")
        like = self.A if like is None else like
        key = (horizon, like.dtype, like.device)
        if key not in self._maps:
            F = [torch.eye(n, dtype=torch.float64)]
            G = [torch.zeros(n, horizon * m, dtype=torch.float64)]
            for k in range(horizon):
                F.append(self.A @ F[-1])
                G.append(self.A @ G[-1])
                G[-1][:, k * m:(k + 1) * m] = self.B
            self._maps[key] = torch.stack(F).to(like), torch.stack(G).to(like)
        return self._maps[key]

    def controllability_matrix(
            self, horizon: Whole) -> Float[Tensor, "state_dim horizon_times_control_dim"]:
        """C = [A^(N-1) B, ..., A B, B], float64: the last state is x[N] = A^N x[0] + C u."""
        return self.prediction_matrices(horizon)[1][-1].clone()

    def rollout_unchecked(self, initial_state: State, controls: Controls) -> States:
        """As in `System`, by one matrix product and no loop over time.

        On a GPU in float64: training may allow TF32 for matrix products, which keeps three digits.
        """
        exact = torch.float64 if controls.is_cuda else controls.dtype
        initial_state, u = initial_state.to(exact), controls.to(exact)
        F, G = self.prediction_matrices(controls.shape[-2], like=u)
        free = torch.einsum("kij,...j->...ki", F, initial_state)    # [..., N + 1, state_dim]
        forced = torch.einsum("kij,...j->...ki", G, u.flatten(-2))  # [..., N + 1, state_dim]
        return (free + forced).to(controls.dtype)


class DoubleIntegrator(LinearSystem):
    """A cart on a frictionless track: state [position (m), velocity (m/s)], control (m/s^2).

    The acceleration is held over each step, so the step is exact:
    [p, v] -> [p + v dt + u dt^2 / 2, v + u dt].
    """

    def __init__(self, dt: Number = 0.33, control_limit: object = None):
        dt = validation.positive("dt", dt)
        if not 1e-150 < dt < 1e150:
            raise ValueError(f"dt={dt:g} is not accepted; its square leaves the range of float64")
        super().__init__([[1.0, dt], [0.0, 1.0]], [[dt**2 / 2], [dt]], dt, control_limit,
                         ("position (m)", "velocity (m/s)", "control u (m/s²)"))
