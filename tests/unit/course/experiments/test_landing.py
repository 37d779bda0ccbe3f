"""Powered descent in the laboratory: judgements, guesses, and closed loop."""

import math

import pytest
import torch

from trc_lib.course.experiments import landing
from trc_lib.problems import powered_descent
from trc_lib.teachers.landing import check, correct, safe


@pytest.fixture(scope="module")
def problems():
    return powered_descent(horizon=20).dataset(16, seed=6)


def test_the_optimum_passes_and_what_is_wrong_with_others_is_counted(problems):
    judged = landing.judge(problems, problems.controls)
    assert judged["rejected"] == 0.5 / 16 and judged["unsafe"] == 0 and judged["landed"] == 1
    assert abs(judged["fuel_excess"]) < 1e-3
    wasteful = problems.controls.clone()
    wasteful[:4] = correct(problems.system, problems.initial_states[:4], problems.system.within(
        problems.controls[:4] * torch.tensor([1.0, 1.0, 1.0, 1.4])), 8)
    judged = landing.judge(problems, wasteful, iterations=0)
    assert judged["rejected"] == pytest.approx(4 / 16)
    short = problems.controls.clone()
    short[:8, :, 3] *= 0.9
    judged = landing.judge(problems, short, iterations=0)
    assert judged["unsafe"] == judged["rejected"] == 0.5 and judged["position_p99"] > 10
    nowhere = landing.judge(problems, short * torch.nan, iterations=0)
    assert nowhere["rejected"] == 1 and nowhere["fuel_excess"] == 0


def test_most_guesses_of_the_polynomial_law_land_after_newtons_method(problems):
    solve = landing.polynomial_law(problems.teacher)
    x0 = problems.initial_states
    guess = solve(x0, problems.target_states)
    assert guess.shape == problems.controls.shape and bool(guess.isfinite().all())
    assert torch.allclose(problems.system.within(guess), guess)
    landed = safe(check(problems.system, x0, correct(problems.system, x0, guess, 12)))
    assert float(landed.double().mean()) > 0.8
    lone = solve(x0[3:4], problems.target_states[3:4])
    assert torch.allclose(lone[0], guess[3])


class Recorder:
    """A network that answers with its start, to see what it was asked."""

    def __init__(self, system):
        self.system = system

    def solve(self, x0, xT):
        self.asked = x0
        thrust = torch.stack([x0[:, 0], x0[:, 4], x0[:, 2]], dim=-1)
        return torch.cat([thrust, torch.ones_like(thrust[:, :1])], dim=-1)[:, None]


def test_a_start_anywhere_is_turned_into_the_frame_and_the_answer_back(problems):
    network = Recorder(problems.system)
    guess = landing.by_network(network)
    for angle in (0.3, 2.0, -1.2, math.pi):
        for side in (1.0, -1.0):
            start = torch.tensor([[800.0, 0, 1500, 20, 7, -50, 1900]], dtype=torch.float64)
            start[:, 4] *= side
            turn = torch.tensor([[math.cos(angle), -math.sin(angle)],
                                 [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
            turned = start.clone()
            turned[0, :2], turned[0, 3:5] = turn @ start[0, :2], turn @ start[0, 3:5]
            answer = guess(turned, None)
            assert torch.allclose(network.asked, torch.tensor(
                [[800.0, 0, 1500, 20, 7, -50, 1900]]).double())
            assert torch.allclose(answer[0, 0, :2], turn @ torch.tensor([800.0, 7 * side]).double())
    assert bool(guess(torch.zeros(1, 7).double(), None).isfinite().all())  # right above the target


def test_the_rest_of_a_plan_pushes_and_lasts_as_what_is_left(problems):
    elapsed = 0.25 * problems.controls[..., 3].sum(dim=1)     # five of twenty steps
    rest = landing.rest_of(problems.controls, elapsed)
    assert torch.allclose(rest[..., 3].sum(dim=1), 3 * elapsed)
    pushed = [(each[..., 3:] * each[..., :3]).sum(dim=1) for each in
              (rest, problems.controls[:, 5:])]
    assert torch.allclose(*pushed, rtol=0.05, atol=5e3)


def test_a_craft_as_it_should_be_lands_in_open_loop_and_one_that_is_not_does_not(problems):
    args = problems.system, problems.initial_states, problems.controls
    calm = landing.descend(*args, spread=0.0, wind=0.0, bias=0.0, dt=0.02)
    assert bool(calm["landed"].all()) and float(calm["miss"].max()) < 1
    fuel = problems.system.fuel(problems.controls)
    assert torch.allclose(calm["fuel"], fuel, rtol=1e-3)
    anew = landing.descend(*args, lambda x, rest: rest, spread=0.0, wind=0.0, bias=0.0, dt=0.02,
                           every=3.0, reserve=0.0)  # those that have landed stay where they are
    assert bool(anew["landed"].all())
    assert torch.allclose(anew["fuel"], fuel, rtol=5e-3)
    rough = landing.descend(*args, seed=1)
    assert float(rough["landed"].double().mean()) < 0.2
    again = landing.descend(*args, seed=1)
    assert torch.equal(rough["miss"], again["miss"])


def test_planning_anew_brings_more_home_and_a_bad_guess_never_flies(problems):
    args = problems.system, problems.initial_states, problems.controls
    small = {"spread": 0.01, "wind": 0.02, "bias": 0.001, "seed": 2, "every": 4.0}
    alone = landing.descend(*args, None, **small)
    anew = landing.descend(*args, lambda x, rest: rest, **small)
    assert float(anew["miss"].median()) < 0.5 * float(alone["miss"].median())
    spared = landing.descend(*args, lambda x, rest: rest, **small | {"reserve": 0.0})
    assert anew["landed"].sum() > spared["landed"].sum()  # thrust in reserve saves some
    nonsense = landing.descend(*args, lambda x, rest: torch.full_like(rest, 1e3), **small)
    assert nonsense["refused"] > 0.5
    assert float(nonsense["miss"].median()) < 0.5 * float(alone["miss"].median())


def test_what_is_left_of_an_optimal_plan_is_a_lesson(problems):
    more = landing.on_the_way(problems, cuts=2)
    n, system = len(problems), problems.system
    assert len(more) == 3 * n and torch.equal(more.controls[:n], problems.controls)
    start = more.initial_states[n:]
    assert float(start[:, 1].abs().max()) < 1e-6          # downrange, and drifting to one side
    assert float(start[:, [0, 4]].min()) > -1e-6
    assert bool((start[:, 6] < problems.initial_states.repeat(2, 1)[:, 6]).all())
    assert bool(safe(check(system, start, more.controls[n:])).all())
    _, solved = problems.teacher.try_solve(start[:6], problems.target_states[:6])
    optimum = problems.teacher.solve(start[:6][solved], problems.target_states[:6][solved])
    excess = system.fuel(more.controls[n:n + 6][solved]) / system.fuel(optimum) - 1
    assert int(solved.sum()) >= 5 and float(excess.abs().max()) < 0.01


def test_the_solver_and_the_polynomial_law_guess_for_what_is_left_of_a_flight(problems):
    elapsed = 0.2 * problems.controls[..., 3].sum(dim=1)
    rest, system = landing.rest_of(problems.controls, elapsed), problems.system
    there = system.rollout(problems.initial_states, problems.controls)[:, 4]  # 4 of 20 steps
    exact = landing.by_cone_programs(problems.teacher, reserve=0.0)(there, rest)
    assert torch.allclose(system.fuel(exact), system.fuel(rest), rtol=0.02)  # it was optimal
    assert bool(safe(check(system, there, correct(system, there, exact, 2))).all())
    sparing = landing.by_cone_programs(problems.teacher, reserve=0.05)(there[:4], rest[:4])
    most = sparing[..., :3].norm(dim=-1).amax(dim=1)
    assert float(most.max()) < 0.951 * system.craft.most_thrust
    done = rest.clone()
    done[..., 3] = 0.9 * landing.LEAST_LEFT / 20
    assert torch.equal(landing.by_cone_programs(problems.teacher)(there, done), done)
    low = there.clone()
    low[:, 2], low[:, 5] = 1.0, -300.0  # nobody lands from there: the old plan stays
    assert torch.equal(landing.by_cone_programs(problems.teacher)(low[:2], rest[:2]), rest[:2])
    law = landing.by_polynomial(problems.teacher)(there, rest)
    assert torch.equal(law, landing.polynomial_law(problems.teacher)(there, None))
    assert float(safe(check(system, there, correct(system, there, law, 8))).double().mean()) > 0.6


def test_a_flight_below_the_ground_or_beyond_its_fuel_has_not_landed(problems):
    system, x0 = problems.system, problems.initial_states[:4]
    calm = {"spread": 0.0, "wind": 0.0, "bias": 0.0, "dt": 0.02}
    good = landing.descend(system, x0, problems.controls[:4], **calm)
    assert bool(good["landed"].all()) and float(good["left"].min()) > 0
    heavy = x0.clone()
    heavy[:, 6] = system.craft.dry_mass + 1.0  # next to no fuel, and lighter than planned
    plan = correct(system, heavy, problems.controls[:4], 8)
    empty = landing.descend(system, heavy, plan, **calm)
    assert float(empty["left"].max()) < 0 and not bool(empty["landed"].any())
    assert bool(landing.arrived(torch.zeros(1, 7).double())) and not bool(landing.arrived(x0).any())
    deep = x0.clone()
    deep[:, 2] = -5.0                          # begins below the ground
    risen = landing.descend(system, deep, correct(system, deep, problems.controls[:4], 8), **calm)
    assert float(risen["lowest"].max()) <= -5 and not bool(risen["landed"].any())
