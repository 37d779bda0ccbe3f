"""Closed loop: plans, limits of the plant, noise."""

import numpy as np
import pytest
import torch

from trc_lib.evaluation import closed_loop
from trc_lib.problems import van_der_pol
from trc_lib.systems import DoubleIntegrator, VanDerPol
from trc_lib.teachers import BoundedMinimumEnergyController, ClippedLQR

STARTS = torch.tensor([[1.5, -1.0], [-0.5, 2.0], [0.3, 0.2]], dtype=torch.float64)
REST = torch.zeros(3, 2, dtype=torch.float64)
TEACHER = van_der_pol(horizon=20).teacher
LAW = ClippedLQR(TEACHER.system, 20, TEACHER.quadratic_cost)


def test_open_loop_without_noise_is_the_plan():
    states, controls = closed_loop(TEACHER.solve, TEACHER.system, STARTS, REST, steps=20, every=20)
    plan = TEACHER.solve(STARTS, REST)
    assert torch.equal(controls, plan)
    assert torch.allclose(states, TEACHER.system.rollout(STARTS, plan), atol=1e-14)


@pytest.mark.parametrize("every", [1, 3, 20])
def test_a_feedback_law_gives_the_same_controls_however_often_it_plans(every):
    states, _ = closed_loop(LAW.solve, LAW.system, STARTS, REST, steps=20, every=every)
    by_hand = STARTS.numpy()
    for _ in range(20):
        u = np.clip(-by_hand @ LAW.gain.numpy().T, -2, 2)
        by_hand = LAW.system.dynamics(torch.tensor(by_hand), torch.tensor(u)).numpy()
    assert np.allclose(states[:, -1].numpy(), by_hand, atol=1e-12)


def test_the_plan_is_made_from_the_state_that_was_reached():
    asked = []

    def planner(state, target):
        asked.append(state.clone())
        return torch.zeros(len(state), 5, 1, dtype=torch.float64)

    plant = VanDerPol(1.2)
    states, _ = closed_loop(planner, plant, STARTS, REST, steps=12, every=5, noise=0.1, seed=3)
    assert len(asked) == 3
    for k, state in enumerate(asked):
        assert torch.equal(state, states[:, 5 * k])


def test_noise_is_as_strong_as_asked_and_the_same_for_every_planner():
    cart, start = DoubleIntegrator(), torch.zeros(4000, 2).double()

    def still(state, target):
        return torch.zeros(len(state), 3, 1, dtype=torch.float64)

    def push(state, target):
        return torch.ones(len(state), 3, 1, dtype=torch.float64)

    first, _ = closed_loop(still, cart, start, start, steps=3, noise=0.05, seed=1)
    again, _ = closed_loop(still, cart, start, start, steps=3, noise=0.05, seed=1)
    other, _ = closed_loop(still, cart, start, start, steps=3, noise=0.05, seed=2)
    pushed, _ = closed_loop(push, cart, start, start, steps=3, noise=0.05, seed=1)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert float(first[:, 1].std()) == pytest.approx(0.05, rel=0.05)
    steered = cart.rollout(torch.zeros(2).double(), torch.ones(3, 1).double())
    # The cart is linear: the effects of controls and noise add up.
    assert torch.allclose(pushed - first, steered.expand_as(pushed), atol=1e-12)


def test_the_plant_clamps_the_controls_to_its_limits():
    def push(state, target):
        return torch.full((len(state), 4, 1), 9.0, dtype=torch.float64)

    _, controls = closed_loop(push, VanDerPol(control_limit=0.5), STARTS, REST, steps=4)
    assert torch.equal(controls, torch.full_like(controls, 0.5))


def test_a_planner_that_can_be_trained_is_driven_without_gradient():
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    states, controls = closed_loop(lambda state, target: weight * state[:, None, :1],
                                   TEACHER.system, STARTS, REST, steps=3)
    assert not states.requires_grad and not controls.requires_grad


@pytest.mark.parametrize(("plan", "changes", "words"), [
    (torch.zeros(3, 4, 1), {"every": 5}, "every=5"),
    (torch.zeros(2, 9, 1), {}, "one plan a state"),
    (torch.zeros(3, 9, 2), {}, "planner's controls"),
    (torch.full((3, 9, 1), torch.nan), {}, "planner's controls"),
    (torch.zeros(3, 9, 1), {"every": 0}, "every"),
    (torch.zeros(3, 9, 1), {"steps": 0}, "steps"),
    (torch.zeros(3, 9, 1), {"noise": -1.0}, "noise"),
    (torch.zeros(3, 9, 1), {"seed": -1}, "seed"),
])
def test_what_does_not_fit_is_refused_by_name(plan, changes, words):
    with pytest.raises(ValueError, match=words):
        closed_loop(lambda state, target: plan, TEACHER.system, STARTS, REST,
                    **({"steps": 9} | changes))


def test_a_state_without_a_plan_goes_on_with_the_one_before_and_the_others_are_as_ever():
    cart = DoubleIntegrator(control_limit=1.0)
    teacher = BoundedMinimumEnergyController(cart, 15)
    starts = torch.tensor([[0.0, 0.0], [-8.0, 0.0], [3.0, 0.3]]).double()  # the second is too far
    there = torch.zeros_like(starts)
    assert teacher.try_solve(starts, there)[1].tolist() == [True, False, True]
    for planner in (teacher.try_solve, teacher.solve):
        states, controls = closed_loop(planner, cart, starts, there, steps=12, every=4, noise=0.01)
        assert bool(states[1, 1:].isnan().all()) and bool(controls[1].isnan().all())
        assert bool(states[[0, 2]].isfinite().all())
        alone, _ = closed_loop(teacher.solve, cart, starts[[0, 2]], there[[0, 2]], steps=4, every=4)
        assert torch.equal(closed_loop(planner, cart, starts, there, steps=4, every=4)[0][[0, 2]],
                           alone)
    plan = torch.arange(6.0).double()[None, :, None] / 10

    def only_once(state, target):
        only_once.calls += 1
        return plan.expand(len(state), -1, -1), torch.full((len(state),), only_once.calls == 1)

    only_once.calls = 0
    _, controls = closed_loop(only_once, cart, starts[:1], there[:1], steps=12, every=2)
    assert torch.equal(controls[0, :6], plan[0]) and bool(controls[0, 6:].isnan().all())
    assert only_once.calls == 4  # with steps 0, 2, 4 and 6; at 8 there is no state to ask about
    with pytest.raises(ValueError, match="planner has a plan for none of the initial states"):
        closed_loop(teacher.try_solve, cart, starts[1:2], there[1:2], steps=3)
    with pytest.raises(ValueError, match="cannot be reached within the bounds for 1 of 1"):
        closed_loop(teacher.solve, cart, starts[1:2], there[1:2], steps=3)


def test_a_single_state_is_driven_alone():
    states, controls = closed_loop(LAW.solve, LAW.system, STARTS[0], REST[0], steps=5)
    assert states.shape == (6, 2) and controls.shape == (5, 1)
    assert torch.allclose(states, closed_loop(LAW.solve, LAW.system, STARTS, REST, 5)[0][0])


def test_limits_of_the_plant_need_not_be_symmetric():
    cart = DoubleIntegrator(control_limit=[[-0.2, 1.0]])
    for push, held in ((-9.0, -0.2), (9.0, 1.0), (-0.15, -0.15)):
        def planner(state, target, push=push):
            return torch.full((len(state), 4, 1), push, dtype=torch.float64)

        _, controls = closed_loop(planner, cart, STARTS, REST, steps=4)
        assert torch.equal(controls, torch.full_like(controls, held))


@pytest.mark.parametrize("lengths", [(8, 6, 4, 2), (2, 3, 9, 2), (5, 5, 5, 5)])
def test_plans_may_become_shorter_or_longer(lengths):
    left = iter(range(4))

    def planner(state, target):
        number = next(left)
        plan = 0.1 * number + 0.01 * torch.arange(lengths[number], dtype=torch.float64)
        return plan[None, :, None].expand(len(state), -1, -1)

    _, controls = closed_loop(planner, DoubleIntegrator(), STARTS, REST, steps=8, every=2)
    expected = torch.tensor([0.0, 0.01, 0.1, 0.11, 0.2, 0.21, 0.3, 0.31], dtype=torch.float64)
    torch.testing.assert_close(controls[..., 0], expected.expand(3, 8))
