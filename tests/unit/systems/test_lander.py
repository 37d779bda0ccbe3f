"""The lander: its step against SciPy's integrator, its slopes, and the limits of its controls."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.integrate
import torch

from trc_lib.costs import QuadraticCost
from trc_lib.evaluation import closed_loop
from trc_lib.rebuild import rebuilt
from trc_lib.systems import Craft, DoubleIntegrator, Lander, System
from trc_lib.systems.lander import lengths
from trc_lib.teachers import (
    BoundedMinimumEnergyController,
    ClippedLQR,
    IterativeLQR,
    MinimumEnergyController,
)

STATE = torch.tensor([2000.0, 30, 1500, 100, -4, -75, 1905], dtype=torch.float64)
IN_OTHER_UNITS = Craft(gravity=0.37, dry_mass=15.0, least_thrust=5.0, most_thrust=13.0,
                       burn_rate=5e-3)


def some(n, seed=0, spread=1e4):
    generator = torch.Generator().manual_seed(seed)
    controls = spread * torch.randn(n, 6, 4, generator=generator, dtype=torch.float64)
    controls[..., 3] = 0.5 + torch.rand(n, 6, generator=generator, dtype=torch.float64)
    return controls


@pytest.mark.parametrize(("craft", "mass", "thrust"), [
    (Craft(), 1905.0, (3000.0, -2000, 9000)), (IN_OTHER_UNITS, 19.0, (3.0, 1, 9))])
def test_a_step_is_that_of_an_integrator(craft, mass, thrust):
    start, T, h = np.array([*STATE[:6], mass]), np.array(thrust), 1.7

    def slope(t, x):
        pull = T / x[6] - np.array([0, 0, craft.gravity])
        return [*x[3:6], *pull, -craft.burn_rate * np.linalg.norm(T)]

    right = scipy.integrate.solve_ivp(slope, (0, h), start, rtol=1e-12, atol=1e-12).y[:, -1]
    given = Lander(craft).dynamics(torch.from_numpy(start), torch.tensor([*T, h]).double())
    assert np.allclose(given.numpy(), right, rtol=1e-8, atol=1e-8)


def test_its_slopes_are_those_of_differences_and_its_loops_are_compiled():
    lander, u = Lander(), torch.tensor([3000.0, -2000, 9000, 1.3], dtype=torch.float64)
    assert lander.why_in_python() == ""
    A, B = lander.jacobians(STATE, u)
    for slopes, at, call in ((A, STATE, lambda x: lander.dynamics(x, u)),
                             (B, u, lambda u: lander.dynamics(STATE, u))):
        for j in range(len(at)):
            step = torch.zeros_like(at)
            step[j] = 1e-4 * max(1.0, float(at[j].abs()))
            column = (call(at + step) - call(at - step)) / (2 * step[j])
            assert torch.allclose(slopes[:, j], column, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("pointing", [180.0, 100.0, 30.0, 0.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_controls_are_put_within_every_limit_and_stay_if_they_are(pointing, dtype):
    craft = Craft(pointing=pointing)
    lander, controls = Lander(craft), some(200).to(dtype)
    controls[0, 0, :3] = 0                       # no direction: up
    controls[1, 0, :3] = torch.tensor([0, 0, -9000.0])
    within = lander.within(controls)
    size = lengths(within[..., :3])[..., 0].double()
    assert float(size.min()) >= craft.least_thrust and float(size.max()) <= craft.most_thrust
    angle = torch.rad2deg(torch.atan2(within[..., :2].double().norm(dim=-1),
                                      within[..., 2].double()))
    assert float(angle.max()) <= pointing + 1e-3
    assert bool((within[..., 3] == within[:, :1, 3]).all())
    assert torch.allclose(lander.within(within), within, rtol=1e-5, atol=1e-2)
    assert bool((within[..., 3] > 0).all()) and bool(within.isfinite().all())


def test_whatever_is_burnt_a_flight_stays_finite():
    lander, controls = Lander(), some(50, spread=1e9)
    controls[:, :, 3] = 1e6
    for state in (STATE, torch.zeros(7).double(), -STATE):
        assert bool(lander.rollout(state, controls).isfinite().all())
        assert bool(lander.rollout(state, lander.within(controls)).isfinite().all())


def test_the_fuel_is_what_the_mass_loses():
    lander = Lander()
    controls = lander.within(some(5))
    states = lander.rollout(STATE, controls)
    assert torch.allclose(lander.fuel(controls), states[:, 0, 6] - states[:, -1, 6])


def test_it_is_made_again_from_its_contents_and_compared_by_its_craft():
    lander = Lander(Craft(glide_slope=4.0))
    again = rebuilt(System, lander.contents())
    assert again.same_as(lander) and again.craft == lander.craft
    assert not again.same_as(Lander(dataclasses.replace(lander.craft, gravity=1.62)))


def test_teachers_that_know_boxes_alone_refuse_it():
    assert not Lander().limits_are_a_box and DoubleIntegrator().limits_are_a_box
    cost = QuadraticCost(np.eye(7), np.eye(4), np.eye(7))
    for teacher in (IterativeLQR, ClippedLQR):
        with pytest.raises(ValueError, match=f"limits that are no box, and {teacher.__name__}"):
            teacher(Lander(), 5, cost)

    class Half(DoubleIntegrator):
        def within(self, controls):
            return controls.clamp(min=0)

    for teacher in (MinimumEnergyController, BoundedMinimumEnergyController):
        with pytest.raises(ValueError, match="no box"):
            teacher(Half(control_limit=1.0), 5)


def test_in_closed_loop_the_plant_keeps_its_limits():
    lander = Lander()

    def plan(x0, xT):
        return torch.zeros(len(x0), 3, 4, dtype=torch.float64) + torch.tensor([0, 0, 1e6, 0.5])

    _, flown = closed_loop(plan, lander, STATE[None], STATE[None] * 0, steps=3)
    assert torch.allclose(flown, lander.within(flown[0])[None])
    assert float(flown[0, 0, 2]) == pytest.approx(lander.craft.most_thrust, rel=1e-5)


@pytest.mark.parametrize(("field", "value"), [
    ("gravity", 0.0), ("dry_mass", -1.0), ("least_thrust", math.nan), ("most_thrust", 10.0),
    ("glide_slope", 90.0), ("pointing", 181.0), ("most_speed", 0.0), ("burn_rate", math.inf)])
def test_what_no_craft_can_have_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        Craft(**{field: value})
