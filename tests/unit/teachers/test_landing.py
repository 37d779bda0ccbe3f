"""Landings as controls: the teacher, Newton's method within the limits, and the check."""

import dataclasses

import numpy as np
import pytest
import scipy.integrate
import torch

from trc_lib.problems import powered_descent
from trc_lib.systems import Craft, Lander
from trc_lib.teachers import FuelOptimalLanding
from trc_lib.teachers.landing import check, correct, safe
from trc_lib.teachers.powered_descent import PoweredDescent


@pytest.fixture(scope="module")
def problems():
    return powered_descent(horizon=20).dataset(12, seed=5)


def shaken(data, share=0.1, seed=0):
    """Answers with noise, on which no plan lands."""
    noise = torch.randn(data.controls.shape, generator=torch.Generator().manual_seed(seed),
                        dtype=torch.float64)
    return data.system.within(data.controls * (1 + share * noise))


def test_the_teachers_answers_land_keep_every_limit_and_burn_what_the_programs_say(problems):
    report = check(problems.system, problems.initial_states, problems.controls)
    assert bool(safe(report).all()) and float(report["position"].max()) < 0.01
    program = PoweredDescent(problems.teacher.craft, 20, "constant")
    for x0, fuel, controls in zip(problems.initial_states, report["fuel"], problems.controls):
        best = program.best(x0)
        assert float(fuel) == pytest.approx(best.fuel, abs=0.5)
        assert float(controls[:, 3].sum()) == pytest.approx(best.time_of_flight, rel=0.01)
        for share in (0.95, 1.05):  # no other time needs less
            other = program.solve(x0, share * best.time_of_flight)
            assert other.status != "optimal" or other.fuel > best.fuel


def test_a_target_elsewhere_is_the_same_problem_moved(problems):
    x0, xT = problems.initial_states[:2].clone(), problems.target_states[:2].clone()
    moved = torch.tensor([300.0, -200, 50, 0, 0, 0, 0], dtype=torch.float64)
    controls, solved = problems.teacher.try_solve(x0 + moved, xT + moved)
    assert bool(solved.all())
    assert torch.allclose(controls, problems.controls[:2], rtol=1e-4, atol=1.0)
    with pytest.raises(ValueError, match="target_state moves"):
        problems.teacher.try_solve(x0, xT + 1)


def test_one_bad_problem_does_not_spoil_the_others(problems):
    x0, xT = problems.initial_states[:4].clone(), problems.target_states[:4]
    x0[1, 6] = 1400.0       # lighter than dry
    x0[2, 5] = -900.0       # too fast to be stopped
    controls, solved = problems.teacher.try_solve(x0, xT)
    assert solved.tolist() == [True, False, False, True]
    assert bool(controls[~solved].isnan().all())
    assert torch.allclose(controls[[0, 3]], problems.controls[[0, 3]], rtol=1e-6, atol=1e-3)


def test_newtons_method_lands_shaken_plans_within_all_limits(problems):
    guess = shaken(problems)
    before = check(problems.system, problems.initial_states, guess)
    assert float(before["position"].min()) > 1 and not bool(safe(before).any())
    after = correct(problems.system, problems.initial_states, guess, 8)
    report = check(problems.system, problems.initial_states, after)
    assert bool(safe(report).all())
    assert float(report["least_thrust"].max()) == float(report["most_thrust"].max()) == 0
    # each row by itself gives the same: a batch does not mix
    alone = correct(problems.system, problems.initial_states[3:4], guess[3:4], 8)
    assert torch.allclose(alone[0], after[3], rtol=1e-8)


@pytest.mark.parametrize("change", [[1, 1, 1, 0.97], [1, 1, 0.98, 1]], ids=["short", "weak"])
def test_no_node_is_lifted_before_the_flight_ends_near_the_target(problems, change):
    """Else the last nodes of a flight that ends too low are held up, and that costs fuel."""
    system, x0 = problems.system, problems.initial_states
    guess = problems.controls * torch.tensor(change)
    far = check(system, x0, guess)["position"] / x0[:, :3].norm(dim=1)
    assert float(far.min()) > 0.01
    free = Lander(dataclasses.replace(system.craft, glide_slope=None))
    assert torch.equal(correct(system, x0, guess, 1), correct(free, x0, guess, 1))
    report = check(system, x0, correct(system, x0, guess, 6))
    assert bool(safe(report).all())
    excess = report["fuel"] / system.fuel(problems.controls) - 1
    assert float(excess.max()) < 0.005


def test_near_the_target_it_converges_quadratically(problems):
    system, x0, guess = problems.system, problems.initial_states, shaken(problems, 0.005)
    misses = [float(check(system, x0, correct(system, x0, guess, k))["position"].median())
              for k in range(4)]
    assert misses[0] > 1 and misses[2] < 1e-3 * misses[0] and misses[3] < 1e-4


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_it_is_the_same_in_any_units_of_mass(problems, scale):
    craft = problems.teacher.craft
    other = Lander(dataclasses.replace(
        craft, dry_mass=scale * craft.dry_mass, least_thrust=scale * craft.least_thrust,
        most_thrust=scale * craft.most_thrust))
    x0, guess = problems.initial_states.clone(), shaken(problems)
    here = correct(problems.system, x0, guess, 4)
    x0[:, 6] *= scale
    in_units = torch.tensor([scale, scale, scale, 1.0], dtype=torch.float64)
    there = correct(other, x0, guess * in_units, 4)
    assert torch.allclose(there / in_units, here, rtol=1e-6, atol=1e-3)


def test_it_is_the_same_in_kilometres_and_minutes(problems):
    craft, length, time = problems.teacher.craft, 1e-3, 1 / 60
    force = length / time**2
    other = Lander(dataclasses.replace(
        craft, gravity=force * craft.gravity, burn_rate=craft.burn_rate * time / length,
        least_thrust=force * craft.least_thrust, most_thrust=force * craft.most_thrust))
    states = torch.tensor([length] * 3 + [length / time] * 3 + [1], dtype=torch.float64)
    controls = torch.tensor([force] * 3 + [time], dtype=torch.float64)
    x0, guess = problems.initial_states, shaken(problems)
    there = correct(other, x0 * states, guess * controls, 4) / controls
    assert torch.allclose(there, correct(problems.system, x0, guess, 4), rtol=1e-6, atol=1e-3)
    teacher = FuelOptimalLanding(other.craft, 20)
    again, solved = teacher.try_solve(x0[:2] * states, problems.target_states[:2] * states)
    assert bool(solved.all())
    assert torch.allclose(teacher.cost(x0[:2], x0[:2], again),
                          problems.teacher.cost(x0[:2], x0[:2], problems.controls[:2]), rtol=1e-4)


def test_a_guess_that_cannot_be_mended_stays_finite_and_is_unsafe(problems):
    hopeless = problems.initial_states.clone()
    hopeless[:, 2] = 1.0       # a metre over the ground
    hopeless[:, 5] = -80.0     # and falling
    made = correct(problems.system, hopeless, problems.controls, 8)
    report = check(problems.system, hopeless, made)
    assert bool(made.isfinite().all()) and not bool(safe(report).any())


def test_the_check_flies_as_scipy_does(problems):
    craft, x0, u = problems.teacher.craft, problems.initial_states[0], shaken(problems)[0]
    x = x0.numpy()
    for *thrust, h in u.tolist():
        T = np.array(thrust)

        def slope(t, x, T=T):
            return [*x[3:6], *(T / x[6] - np.array([0, 0, craft.gravity])),
                    -craft.burn_rate * np.linalg.norm(T)]
        x = scipy.integrate.solve_ivp(slope, (0, h), x, rtol=1e-11, atol=1e-9).y[:, -1]
    report = check(problems.system, x0[None], u[None])
    assert float(report["position"]) == pytest.approx(np.linalg.norm(x[:3]), rel=1e-6)
    assert float(report["speed"]) == pytest.approx(np.linalg.norm(x[3:6]), rel=1e-6)
    assert float(report["fuel"]) == pytest.approx(x0[6].item() - x[6], rel=1e-9)


@pytest.mark.parametrize(("change", "name"), [
    ({"most_thrust": 0.98}, "most_thrust"), ({"least_thrust": 1.02}, "least_thrust"),
    ({"dry_mass": 1.2}, "dry_mass"), ({"most_speed": 20.0}, "most_speed"),
    ({"glide_slope": 60.0}, "glide_slope"), ({"pointing": 5.0}, "pointing")])
def test_the_check_finds_each_limit_that_is_exceeded(problems, change, name):
    craft = problems.teacher.craft
    (field, value), = change.items()
    if getattr(craft, field) is not None and field not in ("glide_slope", "pointing"):
        value *= getattr(craft, field)
    stricter = Lander(dataclasses.replace(craft, **{field: value}))
    report = check(stricter, problems.initial_states, problems.controls)
    assert float(report[name].max()) > 1e-3 and not bool(safe(report).all())
    others = {"most_thrust", "least_thrust", "dry_mass", "most_speed", "glide_slope", "pointing"}
    assert all(float(report[other].max()) < 1e-3 for other in others - {name})


def test_what_is_not_a_number_is_never_safe(problems):
    report = check(problems.system, problems.initial_states, problems.controls * torch.nan)
    assert not bool(safe(report).any())


def test_a_craft_without_a_glide_slope_is_corrected_as_well(problems):
    free = FuelOptimalLanding(Craft(), 20)
    made = correct(free.system, problems.initial_states, shaken(problems), 8)
    report = check(free.system, problems.initial_states, made)
    assert bool(safe(report).all())
