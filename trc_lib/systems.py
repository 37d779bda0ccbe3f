"""What is steered: discrete-time systems, their steps and their roll-outs.

Shapes: states ``[..., horizon + 1, state_dim]``, controls ``[..., horizon, control_dim]``.
"""

import torch

from trc_lib import checking

SUCCESS = 0.1  # a problem is solved if |x_N - x_T| stays below this: metres and metres a second alike
LARGEST_MAP = 10**8  # numbers in the matrices of `prediction_matrices`: 0.8 GB in float64


class LinearSystem:
    """A linear system in discrete time, x[k+1] = A x[k] + B u[k].

    Args:
        A: state matrix, ``[state_dim, state_dim]``.
        B: control matrix, ``[state_dim, control_dim]``.
        dt: seconds that one step lasts.

    Raises:
        ValueError: if a shape does not fit, a value is not finite, or ``dt`` is not above zero.
    """

    def __init__(self, A, B, dt):
        self.dt = checking.positive("dt", dt)
        self.A = checking.array("A", A, (None, None), torch.float64).detach().cpu().clone()
        self.B = checking.array("B", B, (None, None), torch.float64).detach().cpu().clone()
        if self.A.ndim != 2 or self.A.shape[0] != self.A.shape[1] or not self.A.numel():
            raise ValueError(f"A has shape {list(self.A.shape)}; needs [state_dim, state_dim]")
        if self.B.ndim != 2 or self.B.shape[0] != self.A.shape[0] or not self.B.numel():
            raise ValueError(f"B has shape {list(self.B.shape)}; needs [{self.A.shape[0]}, control_dim]")
        self.state_dim, self.control_dim = self.B.shape
        self._maps = {}  # (horizon, dtype, device) -> the two matrices of `prediction_matrices`

    def __repr__(self):
        return f"{type(self).__name__}(state_dim={self.state_dim}, control_dim={self.control_dim}, dt={self.dt:g})"

    def same_as(self, other):
        """Whether ``other`` has the same A, B and dt, to the bit."""
        return torch.equal(self.A, other.A) and torch.equal(self.B, other.B) and self.dt == other.dt

    def step(self, state, control):
        """One step: ``[..., state_dim]`` and ``[..., control_dim]`` give the next ``[..., state_dim]``."""
        state = checking.array("state", state, (self.state_dim,))
        control = checking.array("control", control, (self.control_dim,))
        checking.same_kind("state", state, state.shape[:-1], "control", control, control.shape[:-1])
        return state @ self.A.T.to(state) + control @ self.B.T.to(control)

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
        horizon = checking.whole("horizon", horizon)
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

    def rollout(self, initial_state, controls):
        """All states that ``controls`` lead through, by one matrix product and no loop over time.

        Args:
            initial_state: ``[..., state_dim]``.
            controls: ``[..., horizon, control_dim]``, the same leading dimensions or ones that broadcast.

        Returns:
            states ``[..., horizon + 1, state_dim]``; the first is ``initial_state``.

        Raises:
            TypeError, ValueError: for values that are not finite floats, or shapes that do not fit.
        """
        initial_state = checking.array("initial_state", initial_state, (self.state_dim,))
        controls = checking.array("controls", controls, (None, self.control_dim))
        checking.same_kind("initial_state", initial_state, initial_state.shape[:-1], "controls", controls, controls.shape[:-2])
        return self.predict(initial_state, controls)

    def predict(self, initial_state, controls):
        """`rollout` without its checks, for the inside of a network: nothing here waits for the device."""
        F, G = self.prediction_matrices(controls.shape[-2], like=controls)
        free = torch.einsum("kij,...j->...ki", F, initial_state)           # [..., N+1, state_dim]
        forced = torch.einsum("kij,...j->...ki", G, controls.flatten(-2))  # [..., N+1, state_dim]
        return free + forced


class DoubleIntegrator(LinearSystem):
    """A cart on a frictionless track: state [position (m), velocity (m/s)], control acceleration (m/s^2).

    The acceleration is held over each step, which makes the step exact:
    [p, v] -> [p + v dt + u dt^2 / 2, v + u dt].
    """

    def __init__(self, dt=0.33):
        dt = checking.positive("dt", dt)
        super().__init__(A=[[1.0, dt], [0.0, 1.0]], B=[[dt**2 / 2], [dt]], dt=dt)
