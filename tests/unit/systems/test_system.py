"""A system of one's own: dynamics alone are enough."""

import numpy as np
import pytest
import torch

from trc_lib.evaluation import closed_loop
from trc_lib.systems import DoubleIntegrator, LinearSystem, System, VanDerPol


class Unicycle(System):
    """Three states and two controls, with dynamics and nothing else."""

    def __init__(self, control_limit=None, labels=None):
        super().__init__(3, 2, 0.1, control_limit, labels)

    def dynamics(self, state, control):
        x, y, angle = state.unbind(-1)
        speed, turn = control.unbind(-1)
        return torch.stack([x + self.dt * speed * torch.cos(angle),
                            y + self.dt * speed * torch.sin(angle), angle + self.dt * turn], dim=-1)


def differences(system, x, u, step=1e-6):
    """Central finite differences of one step, by NumPy."""
    def f(values):
        values = torch.from_numpy(values)
        return system.dynamics(*values.split([system.state_dim, system.control_dim])).numpy()

    at = np.concatenate([x, u])
    columns = [(f(at + step * e) - f(at - step * e)) / (2 * step) for e in np.eye(len(at))]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_jacobians_of_any_dynamics_are_its_derivatives(batch):
    system, rng = Unicycle(), np.random.default_rng(0)
    x, u = rng.normal(size=(*batch, 3)), rng.normal(size=(*batch, 2))
    A, B = system.jacobians(torch.from_numpy(x), torch.from_numpy(u))
    assert A.shape == (*batch, 3, 3) and B.shape == (*batch, 3, 2)
    both = torch.cat([A, B], dim=-1).reshape(-1, 3, 5)
    for mine, each_x, each_u in zip(both, x.reshape(-1, 3), u.reshape(-1, 2)):
        np.testing.assert_allclose(mine, differences(system, each_x, each_u), rtol=0, atol=1e-8)


def test_jacobians_have_the_dtype_of_the_states():
    class Cubic(System):
        def dynamics(self, state, control):
            return state - 0.2 * state**3 + control

    x = torch.rand(4, 1)
    assert [each.dtype for each in Cubic(1, 1, 0.1).jacobians(x, x)] == [torch.float32] * 2
    A, _ = Cubic(1, 1, 0.1).jacobians(x, x)
    torch.testing.assert_close(A[..., 0], 1 - 0.6 * x**2)


def test_jacobians_by_autograd_are_those_that_are_written_down():
    system, rng = VanDerPol(1.7), np.random.default_rng(1)
    x, u = torch.from_numpy(rng.normal(size=(5, 1, 2))), torch.from_numpy(rng.normal(size=(6, 1)))
    for mine, theirs in zip(system.jacobians(x, u), System.jacobians(system, x, u)):
        assert mine.shape == (5, 6, 2, mine.shape[-1])
        torch.testing.assert_close(theirs, mine, rtol=0, atol=1e-13)
    with torch.no_grad():
        assert torch.equal(System.jacobians(system, x, u)[0],
                           System.jacobians(system, x.requires_grad_(), u)[0])


@pytest.mark.parametrize(("given", "low", "high"), [
    (None, [-np.inf, -np.inf], [np.inf, np.inf]), (2, [-2, -2], [2, 2]),
    ([1.0, 3.0], [-1, -3], [1, 3]), (np.array([1.0, 3.0]), [-1, -3], [1, 3]),
    (np.float32(0.5), [-0.5, -0.5], [0.5, 0.5]), (torch.tensor([2.0, 1.0]), [-2, -1], [2, 1]),
    ([[0.0, 10.0], [-1.0, np.inf]], [0, -1], [10, np.inf]),
    (np.array([[0, 1], [2, 3]]), [0, 2], [1, 3])], ids=str)
def test_limits_in_every_form(given, low, high):
    system = Unicycle(given)
    assert [bound.tolist() for bound in system.bounds] == [low, high]
    assert all(bound.dtype == torch.float64 for bound in system.bounds)


@pytest.mark.parametrize("limit", [0.1, [[0.1, 0.3]], [[-0.3, 0.7]], [[1e-9, np.inf]], 1e-7])
def test_limits_in_float32_are_the_tightest_within_the_exact_ones(limit):
    system = DoubleIntegrator(control_limit=limit)
    for exact, rounded, inwards in zip(system.bounds, system.float32_bounds, (1, -1)):
        assert rounded.dtype == torch.float32
        assert bool((inwards * (rounded.double() - exact) >= 0).all() | exact.isinf().all())
        outer = np.nextafter(rounded.numpy(), np.float32(-inwards * np.inf)).astype(np.float64)
        assert exact.isinf().all() or bool((inwards * (outer - exact.numpy()) < 0).all())


@pytest.mark.parametrize(("limit", "error", "words"), [
    ([1.0], ValueError, r"control_limit=\[1.0\] has 1 numbers; needs one, or 2, or 2 rows"),
    ([[0, 1]], ValueError, "has 1 numbers"), ([[1, 0], [0, 1]], ValueError, "needs low < high"),
    ([[1, 1], [0, 1]], ValueError, "needs low < high"), ([[0, 1], 2], ValueError, "low < high"),
    ([[0, np.nan], [0, 1]], ValueError, "low < high"), ([1.0, -1.0], ValueError, "=-1.0"),
    (np.array([True, True]), TypeError, "True is not a number"), ("ab", TypeError, "not a number"),
    ([[0, 1, 2], [0, 1, 2]], ValueError, "low < high"), ({}, TypeError, "control_limit=")], ids=str)
def test_limits_that_are_none_are_refused(limit, error, words):
    with pytest.raises(error, match=words):
        Unicycle(limit)


def test_labels_name_states_and_controls():
    assert Unicycle().state_labels == ("x1", "x2", "x3")
    assert Unicycle().control_labels == ("u1", "u2")
    named = Unicycle(labels=("x (m)", "y (m)", "angle", "speed (m/s)", "turn"))
    assert named.control_labels == ("speed (m/s)", "turn")
    assert named.same_as(Unicycle())
    with pytest.raises(ValueError, match="has 2 names; needs 5, of the states and the controls"):
        Unicycle(labels=("x", "y"))
    assert LinearSystem(np.eye(2), np.eye(2), 0.1).labels == ("x1", "x2", "u1", "u2")


class Spilling(System):
    """One of its methods changes what it is given."""

    def __init__(self, spills=None):
        self.spills = spills
        super().__init__(2, 1, 0.1)

    def dynamics(self, state, control):
        position, speed = state.unbind(-1)
        if self.spills == "dynamics":
            speed += 0.1 * control[..., 0]
        else:
            speed = speed + 0.1 * control[..., 0]
        return torch.stack([position + 0.1 * speed, speed], dim=-1)

    def jacobians(self, state, control):
        if self.spills == "jacobians":
            control *= 2
        return super().jacobians(state, control)

    def within(self, controls):
        if self.spills == "within":
            controls[..., 0] = controls[..., 0].clamp(-1, 1)
        return controls * 0.5


@pytest.mark.parametrize("name", ["dynamics", "jacobians", "within"])
def test_a_system_that_changes_its_arguments_in_place_is_refused(name):
    """A roll-out would return states that were changed after they were made."""
    tidy, system = Spilling(), Spilling(name)
    tidy.rollout([1.0, 0.0], [[1.0]])  # says nothing about the other
    x, u = torch.ones(3, 2).double(), 2 * torch.ones(3, 4, 1).double()
    for asks in (lambda: system.rollout(x, u), lambda: system.rollout_unchecked(x, u),
                 lambda: System.jacobians(system, x, u[:, 0]),
                 lambda: closed_loop(lambda *pair: u, system, x, x, 4)):
        with pytest.raises(ValueError, match=f"its {name} changes its arguments in place"):
            asks()
    assert bool((x == 1).all() and (u == 2).all())


class Returning(System):
    """One whose methods return what ``wrong`` makes of the right result."""

    def __init__(self, name, wrong, state_dim=2):
        self.name, self.wrong = name, wrong
        super().__init__(state_dim, 1, 0.1)

    def dynamics(self, state, control):
        after = state + 0.1 * control
        return self.wrong(after) if self.name == "dynamics" else after

    def jacobians(self, state, control):
        A = torch.eye(self.state_dim).to(state).expand(len(state), -1, -1)
        right = A, 0.1 * torch.ones_like(A[..., :1])
        return self.wrong(right) if self.name == "jacobians" else right

    def within(self, controls):
        return self.wrong(controls) if self.name == "within" else controls


@pytest.mark.parametrize("state_dim", [1, 2, 3])
@pytest.mark.parametrize(("name", "wrong", "told"), [
    ("dynamics", lambda x: x.T, r"its dynamics returns torch.float64 \[\d, \d\] for"),
    ("dynamics", lambda x: x.float(), "torch.float32 .*same dtype, as torch.stack"),
    ("dynamics", lambda x: tuple(x.unbind(-1)), "returns a tuple"),
    ("dynamics", lambda x: x.sum(), r"returns torch.float64 \[\] for"),
    ("dynamics", lambda x: None, "returns a NoneType"),
    ("jacobians", lambda AB: AB[0], r"its jacobians returns torch.float64 \[\d, \d, \d\] for"),
    ("jacobians", lambda AB: (AB[0].numpy(), AB[1]), "returns a ndarray and torch.float64"),
    ("jacobians", lambda AB: (AB[0], AB[1][..., 0]), "and torch.float64"),
    ("jacobians", lambda AB: (AB[0][0], AB[1]), "needs"),
    ("jacobians", lambda AB: (AB[0].float(), AB[1].float()), "returns torch.float32"),
    ("jacobians", lambda AB: [*AB, 0.0], "and a float for"),
    ("within", lambda u: u[0], r"its within returns torch.float64 \[3, 1\] for"),
])
def test_a_system_that_returns_something_else_is_refused(name, wrong, told, state_dim):
    """Before anything is computed with it."""
    with pytest.raises(ValueError, match=told):
        Returning(name, wrong, state_dim).rollout([0.0] * state_dim, [[1.0]])
    assert Returning(name, lambda right: right, state_dim).rollout(
        [0.0] * state_dim, [[1.0]]).shape == (2, state_dim)


def test_a_system_that_leaves_its_arguments_as_they_are_is_not_refused():
    x, u = torch.zeros(1, 2).double(), torch.ones(1, 2, 1).double()
    states = Spilling().rollout(x, u)
    assert states[0, -1].tolist() == pytest.approx([0.03, 0.2])
    assert Spilling().jacobians(x, u[:, 0])[1].flatten().tolist() == pytest.approx([0.01, 0.1])


def test_a_system_without_dynamics_says_so():
    class Nothing(System):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing defines no dynamics\(state, control\)"):
        Nothing(1, 1, 0.1).rollout([0.0], [[0.0]])
