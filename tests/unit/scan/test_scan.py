"""Compiled loops over time against the loop in Python, which says what they are."""

import dataclasses
import threading

import numpy as np
import pytest
import torch

import trc_lib.scan.compiled
from trc_lib.scan import plain_scan, scan
from trc_lib.scan.compiled import compiled_scan
from trc_lib.systems import System, VanDerPol
from trc_lib.systems.steps import Linearised

F64 = torch.float64


def pendulum(carry, inputs, constants):
    """Two carries, one of them a matrix; two inputs, one without components; two constants."""
    (angle, memory), (torque, wind), (length, mass) = carry, inputs, constants
    speed = memory[..., 0, :1]
    push = -torch.sin(angle) / length[..., None] + torque * mass + wind[..., None] * speed.tanh()
    fast = torch.where(speed > 0, speed + 0.1 * push, speed + 0.2 * push)
    memory = torch.stack([torch.cat([fast, angle], dim=-1), memory[..., 0, :] * 0.9], dim=-2)
    return [angle + 0.1 * fast, memory], [push.square().sum(dim=-1), (memory @ memory.mT)]


def problems(batch, steps, dtype=F64, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(batch, *shape, generator=generator, dtype=dtype)

    return ([drawn(1), drawn(2, 2)], [drawn(steps, 1), drawn(steps)],
            [drawn().abs() + 0.5, drawn(1)])


def flat(found):
    return [*found[0], *found[1]]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("batch, steps", [(1, 1), (1, 40), (7, 3), (8, 3), (9, 3), (1000, 5),
                                          (0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("dtype, near", [(F64, 1e-12), (torch.float32, 1e-4)])
def test_a_compiled_scan_gives_the_numbers_of_the_loop(dtype, near, batch, steps, reverse):
    given = problems(batch, steps, dtype)
    found, right = scan(pendulum, *given, reverse), plain_scan(pendulum, *given, reverse)
    assert compiled_scan(pendulum, given) is not None
    for mine, other in zip(flat(found), flat(right), strict=True):
        torch.testing.assert_close(mine, other, rtol=near, atol=near)


@pytest.mark.parametrize("reverse", [False, True])
def test_it_is_differentiable_as_often_as_one_likes_in_all_that_it_is_given(reverse):
    given = [[each.requires_grad_() for each in group] for group in problems(2, 4)]
    tensors = [each for group in given for each in group]

    def run(*tensors):
        return tuple(flat(scan(pendulum, tensors[:2], tensors[2:4], tensors[4:], reverse)))

    assert torch.autograd.gradcheck(run, tensors)
    assert torch.autograd.gradgradcheck(run, tensors)
    upstream = [torch.randn_like(each) for each in run(*tensors)]
    plain = flat(plain_scan(pendulum, *given, reverse))
    for mine, right in zip(torch.autograd.grad(run(*tensors), tensors, upstream),
                           torch.autograd.grad(plain, tensors, upstream)):
        torch.testing.assert_close(mine, right, rtol=1e-11, atol=1e-12)


def test_tensors_may_be_broadcast_strided_or_parts_of_others():
    carry, _, constants = problems(6, 5)
    wide = torch.randn(6, 5, 3, dtype=F64)
    given = ([carry[0][:1].expand(6, 1), carry[1].mT], [wide[:, :, 1:2], wide.mT[:, 2]],
             [constants[0], constants[1][:1].expand(6, 1)])
    for mine, right in zip(flat(scan(pendulum, *given)), flat(plain_scan(pendulum, *given))):
        torch.testing.assert_close(mine, right, rtol=1e-12, atol=1e-12)


def test_without_a_carry_it_is_a_map():
    def doubled(carry, inputs, constants):
        return [], [2 * inputs[0] + constants[0]]

    x, c = torch.randn(3, 4, 2, dtype=F64), torch.randn(3, 2, dtype=F64)
    for way in (scan, plain_scan):
        (found,) = way(doubled, [], [x], [c])[1]
        torch.testing.assert_close(found, 2 * x + c[:, None])


def test_problems_that_overflow_do_not_harm_their_neighbours():
    def squared(carry, inputs, constants):
        return [carry[0] ** 2 + inputs[0]], []

    x = torch.tensor([[0.1], [9.0], [0.2], [torch.nan]], dtype=F64)
    u = torch.zeros(4, 12, 1, dtype=F64)
    (found,), _ = scan(squared, [x], [u])
    (right,), _ = plain_scan(squared, [x], [u])
    torch.testing.assert_close(found, right, equal_nan=True)
    assert bool(found[[0, 2]].isfinite().all()) and not bool(found[1].isfinite().all())


def test_cores_share_large_batches_and_the_numbers_do_not_depend_on_it(monkeypatch):
    given = problems(100, 20)
    one = flat(scan(pendulum, *given))
    monkeypatch.setattr(trc_lib.scan.compiled, "SHARED", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        shared = flat(scan(pendulum, *given))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, one, shared))


def test_threads_may_scan_and_compile_at_the_same_time():
    found = {}

    def work(i):
        def step(carry, inputs, constants):
            return [carry[0] * 0.5 + inputs[0] * i], []

        for _ in range(20):
            found[i] = scan(step, [torch.ones(5, 1)], [torch.ones(5, 9, 1)])[0][0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    for i in range(6):
        right = 0.5**9 + i * sum(0.5**k for k in range(9))
        assert float(found[i][0, -1]) == pytest.approx(right)


def numpy_inside(carry, inputs, constants):
    return [torch.from_numpy(np.sin(carry[0].numpy())) + inputs[0]], []


def listed_inside(carry, inputs, constants):
    return [torch.as_tensor(carry[0].tolist(), dtype=F64) + inputs[0]], []


def branch_on_a_value(carry, inputs, constants):
    return [carry[0] + inputs[0] if bool((carry[0] > 0).all()) else carry[0] - inputs[0]], []


def sorted_inside(carry, inputs, constants):
    return [carry[0].sort(dim=-1).values + inputs[0]], []


def in_another_precision(carry, inputs, constants):
    return [(carry[0].float() + 1).double() + inputs[0]], []


HELD = torch.full((2,), 0.5, dtype=F64, requires_grad=True)


def with_a_parameter(carry, inputs, constants):
    return [carry[0] * HELD + inputs[0]], []


@pytest.mark.parametrize("step", [numpy_inside, listed_inside, branch_on_a_value, sorted_inside,
                                  in_another_precision, with_a_parameter])
def test_what_cannot_be_compiled_takes_the_loop(step):
    given = [torch.randn(1, 2, dtype=F64)], [torch.randn(1, 6, 2, dtype=F64)], []
    assert compiled_scan(step, given) is None
    (found,), (right,) = scan(step, *given)[0], plain_scan(step, *given)[0]
    assert torch.equal(found, right)
    if step is with_a_parameter:
        found.sum().backward()
        assert bool((HELD.grad != 0).all())


def test_a_random_step_is_not_frozen():
    def noisy(carry, inputs, constants):
        return [carry[0] + torch.randn(carry[0].shape, dtype=F64)], []

    given = [torch.zeros(3, 2, dtype=F64)], [torch.zeros(3, 4, 1, dtype=F64)]
    assert not torch.equal(scan(noisy, *given)[0][0], scan(noisy, *given)[0][0])


def test_changes_in_place_inside_a_step_are_compiled_too():
    def written(carry, inputs, constants):
        out = torch.zeros_like(carry[0])
        out[..., 0] = carry[0][..., 1] * 2
        out[..., 1] += inputs[0][..., 0]
        return [out], []

    given = [torch.randn(5, 2, dtype=F64)], [torch.randn(5, 6, 1, dtype=F64)], []
    assert compiled_scan(written, given) is not None
    assert torch.equal(scan(written, *given)[0][0], plain_scan(written, *given)[0][0])


def test_a_linear_solve_inside_a_step_chooses_its_pivots():
    def solved(carry, inputs, constants):
        return [torch.linalg.solve(inputs[0], carry[0])], [torch.linalg.inv(inputs[0])]

    matrices = torch.randn(50, 4, 3, 3, dtype=F64)
    matrices[0, :, 0, 0] = 0.0  # without a pivot from below it would be divided by zero
    given = [torch.randn(50, 3, dtype=F64)], [matrices], []
    assert compiled_scan(solved, given) is not None
    for mine, right in zip(flat(scan(solved, *given)), flat(plain_scan(solved, *given))):
        torch.testing.assert_close(mine, right, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_derivative_of_a_solution_is_of_its_own_matrix(symmetric):
    """Also with unit vectors for upstream, when nothing else depends on the arguments."""
    class Coupled(System):
        def dynamics(self, state, control):
            low, high = state.unbind(-1)
            right = high * 0.5 if symmetric else 0 * low
            matrix = torch.stack([torch.stack([2 + low.cos(), high * 0.5], -1),
                                  torch.stack([right, 2 + high.sin()], -1)], -2)
            return torch.linalg.solve(matrix, (state + control)[..., None])[..., 0]

    system = Coupled(2, 1, 0.1)
    x, u = torch.randn(9, 1, 2, dtype=F64), torch.randn(9, 1, 1, dtype=F64)
    assert compiled_scan(Linearised(system), ([], [x, u], [])) is not None
    for i in range(9):
        right = torch.autograd.functional.jacobian(system.dynamics, (x[i, 0], u[i, 0]))
        for mine, other in zip(system.jacobians(x[i, 0], u[i, 0]), right):
            torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


def test_functions_of_pytorch_may_transform_a_roll_out():
    system, x = VanDerPol(), torch.randn(3, 2, dtype=F64)
    u = torch.randn(3, 5, 1, dtype=F64)
    right = torch.stack([system.rollout_unchecked(*each)[-1] for each in zip(x, u)])
    found = torch.func.vmap(lambda x, u: system.rollout_unchecked(x, u)[-1])(x, u)
    torch.testing.assert_close(found, right)
    forward, backward = (
        way(lambda u: system.rollout_unchecked(x[0], u)[-1])(u[0])
        for way in (torch.func.jacfwd, torch.func.jacrev))
    plain = torch.autograd.functional.jacobian(
        lambda u: system.rollout_unchecked(x[0], u)[-1], u[0])
    torch.testing.assert_close(forward, backward)
    torch.testing.assert_close(plain, backward)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad,
                                  lambda: torch.device("meta")],
                         ids=["inference", "no_grad", "another device"])
def test_the_mode_of_the_first_call_does_not_matter(mode):
    @dataclasses.dataclass(frozen=True)
    class Product:
        name: str

        def __call__(self, carry, inputs, constants):
            turned = torch.eye(2).flip(0).to(inputs[0]) @ inputs[0].mT
            return [(turned @ carry[0][..., None])[..., 0]], []

    given = [torch.randn(2, 2)], [torch.randn(2, 3, 2, 2)], []
    with mode():
        inside = scan(Product(str(mode)), *given)[0][0]
    assert compiled_scan(Product(str(mode)), given) is not None
    torch.testing.assert_close(inside.clone(), plain_scan(Product("plain"), *given)[0][0])


def test_a_system_that_was_changed_is_compiled_anew():
    system, x, u = VanDerPol(), torch.ones(1, 2, dtype=F64), torch.zeros(1, 50, 1, dtype=F64)
    before = system.rollout(x, u)
    system.mu = 3.0
    assert torch.equal(system.rollout(x, u), VanDerPol(3.0).rollout(x, u))
    assert not torch.equal(before, system.rollout(x, u))


def test_a_system_says_why_its_loops_run_in_python():
    class Sorted(System):
        def dynamics(self, state, control):
            return state.sort(dim=-1).values + control

    class Branching(Sorted):
        def dynamics(self, state, control):
            return state if bool((state > 0).all()) else state + control

    locked = VanDerPol()
    locked.lock = threading.Lock()
    assert "its attribute lock cannot be compared" in locked.why_in_python()
    x, u = torch.ones(1, 2, dtype=F64), torch.ones(1, 5, 1, dtype=F64)
    assert torch.equal(locked.rollout(x, u), VanDerPol().rollout(x, u))
    assert VanDerPol().why_in_python() == ""
    assert Sorted(2, 2, 0.1).why_in_python() == "aten.sort.default is not known here"
    assert "asks for a value" in Branching(2, 2, 0.1).why_in_python()


class Driven(System):
    """x[k+1] = A x + tanh(u), with a matrix that may be changed in place."""

    def __init__(self):
        super().__init__(2, 2, 0.1)
        self.A = torch.eye(2, dtype=F64)

    def dynamics(self, state, control):
        return state @ self.A.T.to(state) + control.tanh()


def test_also_a_matrix_that_was_changed_in_place_and_a_method_that_was_replaced(monkeypatch):
    system, x, u = Driven(), torch.ones(3, 2, dtype=F64), torch.randn(3, 9, 2, dtype=F64)
    system.rollout(x, u)
    system.A[0, 1] = 0.3
    expected = [x]
    for control in u.unbind(1):
        expected.append(expected[-1] @ system.A.T + control.tanh())
    torch.testing.assert_close(system.rollout(x, u), torch.stack(expected, dim=1))
    monkeypatch.setattr(Driven, "dynamics", lambda self, state, control: state + control)
    torch.testing.assert_close(system.rollout(x, u)[:, -1], x + u.sum(dim=1))


def made(function, **attributes):
    """A system of two states and one control whose dynamics are a function of (self, x, u)."""
    class Made(System):
        def __init__(self):
            super().__init__(2, 1, 0.1)
            vars(self).update(attributes)

        def dynamics(self, state, control):
            return function(self, state, control)

    return Made()


START, PUSHES = torch.full((3, 2), 9.0, dtype=F64), torch.full((3, 5, 1), 0.3, dtype=F64)


def rolled(system, x=START, u=PUSHES):
    states = [x]
    for control in u.unbind(1):
        states.append(system.dynamics(states[-1], control))
    return torch.stack(states, dim=1)


def refusing(self, x, u):
    if (x < 0).any():
        raise ValueError("the level of a tank is negative")
    return 0.9 * x + 0.1 * u


TABLE = torch.arange(20, dtype=F64)


@pytest.mark.parametrize("function", [
    refusing,
    lambda self, x, u: 0.5 * x + 0.1 * u + 0.01 * TABLE[x.long().clamp(0, 19)],
    lambda self, x, u: 0.9 * x + 0.1 * u - torch.from_numpy(np.maximum(x.numpy() - 6, 0)),
    lambda self, x, u: 0.9 * x - torch.relu(torch.tensor(x.tolist(), dtype=F64) - 6),
    lambda self, x, u: 0.9 * x + (x // 0.1),
    lambda self, x, u: 0.9 * x + ((x > 6).to(torch.bool) + (x > 8)).to(x.dtype),
    lambda self, x, u: 0.9 * x + torch.relu(x - 6.2).long(),
    lambda self, x, u: 0.9 * x + torch.trunc(u * 10) * torch.round(x)],
    ids=["refuses some", "a table", "NumPy", "a list", "floor", "or", "whole numbers", "rounding"])
def test_odd_dynamics_give_the_numbers_of_the_loop(function):
    system = made(function)
    assert torch.equal(system.rollout_unchecked(START, PUSHES), rolled(system))


def test_dynamics_may_roll_out_another_system():
    inner = VanDerPol()
    outer = made(lambda self, x, u: inner.rollout_unchecked(
        x, u[..., None, :].expand(*u.shape[:-1], 4, 1))[..., -1, :])
    found = outer.rollout_unchecked(START / 9, PUSHES)
    torch.testing.assert_close(found, rolled(outer, START / 9), rtol=1e-9, atol=1e-9)


def test_a_system_changed_before_the_gradient_is_refused_and_spoils_nothing():
    system, u = made(lambda self, x, u: self.mass * 0.5 * x + u * x, mass=1.7), PUSHES.clone()
    u.requires_grad_()
    total = system.rollout_unchecked(START, u).sum()
    system.mass = 5.0
    with pytest.raises(RuntimeError, match="was changed after the roll-out"):
        torch.autograd.grad(total, u)
    system.mass = 1.7
    (mine,) = torch.autograd.grad(system.rollout_unchecked(START, u).sum(), u)
    (right,) = torch.autograd.grad(rolled(system, u=u).sum(), u)
    torch.testing.assert_close(mine, right)


def test_a_tensor_that_begins_to_need_its_gradient_gets_it():
    mass = torch.tensor(1.3, dtype=F64)
    system = made(lambda self, x, u: self.mass * 0.5 * x + u, mass=mass)
    system.rollout_unchecked(START, PUSHES)
    mass.requires_grad_()
    system.rollout_unchecked(START, PUSHES).sum().backward()
    assert float(mass.grad) > 1


def test_what_a_class_or_a_closure_holds_may_change():
    factor = 1.0
    system = made(lambda self, x, u: self.mass * x + factor * u)
    type(system).mass = 0.5
    for factor, mass in ((1.0, 0.5), (1.0, 0.9), (3.0, 0.9)):  # noqa: B007 - the closure's
        type(system).mass = mass
        assert torch.equal(system.rollout_unchecked(START, PUSHES), rolled(system))


def test_tensors_of_odd_kinds_are_read_right():
    system = made(lambda self, x, u: 0.5 * x + u)
    negative = torch._neg_view(PUSHES)
    assert torch.equal(system.rollout_unchecked(START, negative), rolled(system, u=negative))
    zeros = torch._efficientzerotensor((3, 5, 1), dtype=F64)
    assert torch.equal(system.rollout_unchecked(START, zeros), rolled(system, u=PUSHES * 0))
    with torch.inference_mode():
        start = START + 0
    u = PUSHES.clone().requires_grad_()
    system.rollout_unchecked(start, u).sum().backward()
    assert bool((u.grad > 0).all())


def test_older_ways_to_vectorise_derivatives_work():
    def total(u):
        return VanDerPol().rollout_unchecked(START / 9, u).cos().sum()

    ways = [torch.autograd.functional.hessian(total, PUSHES, vectorize=way)
            for way in (True, False)]
    torch.testing.assert_close(*ways)


def test_the_default_dtype_is_that_of_the_call():
    system = made(lambda self, x, u: x * torch.tensor([0.1, 0.7]) + u)
    before = system.rollout_unchecked(START, PUSHES)
    torch.set_default_dtype(F64)
    try:
        now = system.rollout_unchecked(START, PUSHES)
        assert torch.equal(now, rolled(system)) and not torch.equal(before, now)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_system_may_call_its_attributes_as_it_likes():
    plain = made(lambda self, x, u: 0.5 * x + u)
    named = made(lambda self, x, u: 0.5 * x + u, state=1.0, step=2.0, check=3.0,
                 reason="a", system=4)
    assert named.why_in_python() == ""
    ours, right = (each.rollout_unchecked(START, PUSHES) for each in (named, plain))
    assert torch.equal(ours, right)
    u = PUSHES.clone().requires_grad_()
    named.rollout_unchecked(START, u).sum().backward()
    assert bool((u.grad > 0).all())
