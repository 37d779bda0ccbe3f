"""Each problem is a teacher and a sampler; no module asks for one by its name."""

from functools import partial

import pytest
import torch

from trc_lib.course.experiments import Study, Variant, definitions
from trc_lib.course.experiments.runs import run_variant
from trc_lib.data import LQRDataset
from trc_lib.data.sampling import box
from trc_lib.evaluation import evaluate
from trc_lib.model import TinyRecursiveControl
from trc_lib.model.baselines import LinearMap
from trc_lib.problems import PROBLEMS, Problem, named
from trc_lib.systems import LinearSystem, System
from trc_lib.teachers import Teacher
from trc_lib.training import TrainConfig, train

SHORT = {"double_integrator": {}, "bounded_inputs": {}, "van_der_pol": {"horizon": 8},
         "weak_van_der_pol": {"horizon": 8}, "powered_descent": {"horizon": 12}}
each_problem = pytest.mark.parametrize("problem", [
    make(**SHORT[name]) for name, make in PROBLEMS.items()], ids=PROBLEMS)


@each_problem
def test_a_problem_goes_all_the_way_from_sampling_to_metrics(problem, tmp_path):
    made = problem.dataset(24, seed=3)
    made.save(tmp_path / "problems.npz")
    data = LQRDataset.load(tmp_path / "problems.npz")
    system = data.system
    assert data.fingerprint == made.fingerprint
    for states, given in ((data.initial_states, problem.state_range),
                          (data.target_states, problem.target_range)):
        _, low, high = box("range", given, system.state_dim)
        assert bool(((states >= low) & (states <= high)).all())
    model = TinyRecursiveControl.create_two_level_small(
        system, horizon=data.horizon, block_hidden=8, head_hidden=8)
    train(model, data, data, TrainConfig(epochs=1, batch_size=8), tmp_path, progress=False)
    metrics = evaluate(TinyRecursiveControl.load(tmp_path / "best_model.pt"), data)
    assert len(metrics) == 4 and metrics[-1].cost_ratio > 0
    assert 0 <= metrics[-1].success_rate <= 1
    assert (metrics[-1].excess_energy is not None) == data.teacher.has_ruler
    cycles = model(data.initial_states, data.target_states)["cycle_controls"].double()
    torch.testing.assert_close(system.within(cycles), cycles, rtol=1e-5, atol=1e-5)
    linear = LinearMap(data).solve(data.initial_states, data.target_states)
    torch.testing.assert_close(system.within(linear), linear, rtol=1e-5, atol=1e-5)
    if system.control_limit is not None:
        controls = model.solve(data.initial_states, data.target_states)
        assert float(controls.abs().max()) <= float(system.control_limit)


@pytest.mark.parametrize("problem", [  # a landing's are compared with cvxpy's
    make(**SHORT[name]) for name, make in PROBLEMS.items() if name != "powered_descent"])
def test_the_teachers_own_answers_are_the_best_of_all_that_arrive(problem):
    data, noise = problem.dataset(16, seed=4), torch.Generator().manual_seed(0)
    x0, xT = data.initial_states, data.target_states
    best = data.teacher.cost(x0, xT, data.controls)
    C = None
    if isinstance(data.system, LinearSystem):
        C = data.system.controllability_matrix(data.horizon)
    for _ in range(5):
        other = 0.05 * torch.randn(data.controls.shape, generator=noise, dtype=torch.float64)
        if C is not None:  # the part that does not move the final state
            flat = other.flatten(1)
            other = (flat - flat @ torch.linalg.pinv(C) @ C).unflatten(1, other.shape[1:])
        u, limit = data.controls + other, data.system.control_limit
        inside = torch.ones(16, dtype=torch.bool)
        if limit is not None:
            inside = (u.abs() <= limit).flatten(1).all(dim=1)
        assert bool((data.teacher.cost(x0, xT, u) > best)[inside].all())


class Tank(System):
    """A tank that a pump fills: one state, one control, no name that the library knows."""

    def __init__(self, leak=0.1, control_limit=((0.0, 3.0),)):
        self.leak = leak
        super().__init__(1, 1, 1.0, control_limit)

    def dynamics(self, state, control):
        return state + control - self.leak * state


class Pump(Teacher):
    """Half of what is missing, in every step: no optimum, but a teacher like any other."""

    def try_solve(self, initial_state, target_state):
        state, controls = initial_state, []
        for _ in range(self.horizon):
            control = (0.5 * (target_state - state)).clamp(0, 3)
            controls.append(control)
            state = self.system.dynamics(state, control)
        solved = target_state[..., 0] >= initial_state[..., 0]  # it cannot let anything out
        return torch.stack(controls, dim=-2), solved


def test_a_problem_with_a_system_and_a_teacher_of_its_own_goes_all_the_way(tmp_path):
    problem = Problem(Pump(Tank(), 8, success=1.0), [[0.0, 5.0]], [[0.0, 5.0]])
    data = problem.dataset(64, seed=1)
    assert 0.3 < data.share_dropped < 0.7  # those that start too full
    data.save(tmp_path / "data.npz")
    loaded = LQRDataset.load(tmp_path / "data.npz")
    assert type(loaded.teacher) is Pump and loaded.fingerprint == data.fingerprint
    model = TinyRecursiveControl.create_two_level_small(loaded.system, horizon=8)
    train(model, loaded, loaded, TrainConfig(epochs=3, batch_size=16), tmp_path / "run",
          progress=False)
    again = TinyRecursiveControl.load(tmp_path / "run" / "best_model.pt")
    controls = again.solve(data.initial_states, data.target_states)
    assert float(controls.min()) >= 0 and float(controls.max()) <= 3
    first, *_, last = evaluate(again, loaded)
    assert last.control_mse < 1 and last.excess_energy is None and first != last
    assert problem.store(tmp_path / "store", 64, seed=1).drawn == data.drawn


def test_the_oscillators_problem_is_the_one_that_chapter_8_states():
    problem = PROBLEMS["van_der_pol"]()
    teacher, cost = problem.teacher, problem.teacher.quadratic_cost
    assert (problem.state_range, problem.target_range, teacher.success) == (2.0, 0.0, 0.2)
    assert (teacher.horizon, teacher.system.dt, teacher.system.mu) == (100, 0.05, 1.0)
    assert teacher.system.control_limit.tolist() == [2.0]
    assert cost.Q.tolist() == [[10, 0], [0, 5]] and cost.R.tolist() == [[0.1]]
    assert cost.Q_final.tolist() == [[200, 0], [0, 100]]


def tank():
    """A problem that a command line names by its module."""
    return Problem(Pump(Tank(), 8, success=1.0), [[0.0, 1.0]], [[4.0, 5.0]])


def test_a_problem_is_named_by_the_library_or_by_its_module():
    assert named("van_der_pol", PROBLEMS, "a problem") is PROBLEMS["van_der_pol"]
    assert named(f"{__name__}:tank", PROBLEMS, "a problem") is tank
    for text, words in (("tank", "'tank' is unknown; accepted are double_integrator, bounded"),
                        (f"{__name__}:sink", "cannot be imported: .*sink"),
                        ("no.such:tank", "cannot be imported: No module named 'no'"),
                        (":tank", "cannot be imported"), ("", "is unknown")):
        with pytest.raises(ValueError, match=words):
            named(text, PROBLEMS, "a problem")


def test_a_study_may_be_of_a_problem_of_ones_own():
    study = Study("tanks", f"{__name__}:tank", "final_error", (), num_train=40, num_validation=10,
                  num_test=10)
    variant = Variant("small", "a small network", partial(
        definitions.recursive, block_hidden=8, head_hidden=8, latent_dim=8), ({"epochs": 2},))
    model, figures = run_variant(variant, 1e-3, 0, study)
    assert model.config.horizon == 8 and figures["success_rate"] >= 0


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name != "powered_descent"])
def test_a_problem_takes_its_steps_and_its_horizon(name):
    problem = PROBLEMS[name](horizon=7, dt=0.21, state_range=1.5)
    teacher = problem.teacher
    assert (teacher.horizon, teacher.system.dt, problem.state_range) == (7, 0.21, 1.5)
    assert PROBLEMS["powered_descent"](horizon=7).teacher.horizon == 7  # its time is free
