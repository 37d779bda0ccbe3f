import ast
import dataclasses
import inspect
import textwrap

import numpy as np
import pytest
import torch

from trc_lib import io
from trc_lib.model import (
    CostGradient,
    FinalError,
    LastCycleGradient,
    NoFeedback,
    Proportional,
    SingleLatent,
    TinyRecursiveControl,
    TRCConfig,
)
from trc_lib.model.learner import straight_through_clamp
from trc_lib.problems import van_der_pol
from trc_lib.systems import DoubleIntegrator, LinearSystem
from trc_lib.training import imitation_loss

CART = DoubleIntegrator()
VARIANTS = {"recursive": {}, "no feedback": {"feedback": NoFeedback}, "last gradient": {"network": LastCycleGradient},
            "no feedback, last gradient": {"feedback": NoFeedback, "network": LastCycleGradient},
            "proportional": {"feedback": lambda system: Proportional(FinalError(system))}, "single latent": {"network": SingleLatent}}
each_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))


@pytest.fixture
def problems(dataset):
    return dataset.initial_states[:8].float(), dataset.target_states[:8].float()


@pytest.fixture
def scaled(dataset):
    """Makes a tiny network whose scaling is that of a dataset, so that a scale forgotten somewhere shows."""
    def make(network=TinyRecursiveControl, feedback=FinalError, system=CART, **changes):
        model = network.create_two_level_small(system, feedback=feedback(system), **{"latent_dim": 16, "block_hidden": 16, "head_hidden": 16} | changes)
        model.set_scaling(dataset)
        return model
    return make


def refined_by_hand(model, x0, xT, first_gradient_cycle=0):
    """The controls after every cycle, from the weights alone, with plain loops; cycles before the first run without gradient."""
    w, c = dict(model.named_parameters()), model.config

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    def silu(x):
        return x / (1 + torch.exp(-x))

    def block(x):
        for i in range(c.block_layers):
            gate, value = linear(f"block.layers.{i}.gate_and_value", x).split(c.block_hidden, dim=-1)
            x = x + linear(f"block.layers.{i}.down", silu(gate) * value)
            x = x / (x.square().mean(dim=-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt()
        return x

    def final_state(u):
        A, B, x = model.system.A.to(x0), model.system.B.to(x0), x0
        for k in range(c.horizon):
            x = x @ A.T + u[:, k] @ B.T
        return x

    def physical(controls):
        return controls.reshape(-1, c.horizon, c.control_dim) * model.control_scale

    time = torch.full((len(x0), 1), c.horizon * model.system.dt, dtype=x0.dtype)
    x = torch.cat([x0 / model.state_scale, xT / model.state_scale, time], dim=1)
    z_initial = linear("encoder.4", silu(linear("encoder.2", silu(linear("encoder.0", x)))))
    controls = linear("initial_generator.2", silu(linear("initial_generator.0", z_initial)))
    z_H, z_L, all_controls = z_initial, torch.zeros_like(z_initial), [physical(controls)]
    for h in range(c.H_cycles):
        with torch.set_grad_enabled(h >= first_gradient_cycle):
            x = z_initial + linear("control_embedding", controls)
            size = 1
            if not isinstance(model.feedback, NoFeedback):
                error = (final_state(physical(controls)) - xT) / model.state_scale
                if isinstance(model.feedback, Proportional):
                    size = ((error ** 2).sum(dim=1, keepdim=True) + 1e-12) ** 0.5
                    error = torch.cat([error / size, torch.log(size) / 4], dim=1)
                x = x + linear("error_embedding", error)
            if isinstance(model, SingleLatent):
                z_H = z_H * 0
            for _ in range(c.L_cycles):
                z_L = block(z_L + z_H + x)
            z_H = block(z_H + z_L)
            correction = size * linear("decoder.2", silu(linear("decoder.0", z_H)))
        controls = controls + correction
        all_controls.append(physical(controls))
    return torch.stack(all_controls)


def gradients(model, cycle_controls, optimal_controls, cycle_weight=0.0):
    model.zero_grad()
    imitation_loss(cycle_controls, optimal_controls, cycle_weight)[0].backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


# ---------------------------------------------------------------- the recursion

@pytest.mark.parametrize(("create", "size"), [(TinyRecursiveControl.create_two_level_small, 150_000),
                                              (TinyRecursiveControl.create_two_level_medium, 600_000)])
def test_network_has_about_the_parameters_of_the_description(create, size):
    model = create()
    assert model.num_parameters == sum(p.numel() for p in model.parameters() if p.requires_grad) == pytest.approx(size, rel=0.1)


@each_variant
@pytest.mark.parametrize("sizes", [{}, {"H_cycles": 1, "L_cycles": 1, "block_layers": 1}, {"H_cycles": 5}], ids=str)
def test_forward_is_the_recursion_written_out_by_hand(scaled, problems, variant, sizes):
    model = scaled(**variant, **sizes)
    expected = refined_by_hand(model, *problems)
    output = model(*problems)
    torch.testing.assert_close(output["cycle_controls"], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(output["controls"], output["cycle_controls"][-1])


def test_forward_serves_systems_of_several_states_and_controls(tiny):
    rng = np.random.default_rng(0)
    system = LinearSystem(rng.normal(size=(3, 3)) / 3, rng.normal(size=(3, 2)), dt=0.1)
    model = tiny(system=system, state_dim=3, control_dim=2, horizon=6)
    model.control_scale.copy_(torch.tensor([0.5, 3.0]))
    problems = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(*problems)["cycle_controls"], refined_by_hand(model, *problems), rtol=1e-5, atol=1e-5)


@each_variant
@pytest.mark.parametrize("cycle_weight", [0, 0.1])
def test_every_parameter_learns(scaled, dataset, problems, variant, cycle_weight):
    model = scaled(**variant)
    got = gradients(model, model(*problems)["cycle_controls"], dataset.controls[:8].float(), cycle_weight)
    assert [name for name, gradient in got.items() if not gradient.any()] == []


@pytest.mark.parametrize("variant", ["recursive", "no feedback", "proportional", "single latent"])
def test_gradient_of_the_full_recursion_agrees_with_finite_differences(scaled, dataset, problems, variant):
    model = scaled(**VARIANTS[variant], L_cycles=2).double()
    problems = [states.double() for states in problems]

    def loss():
        return imitation_loss(model(*problems)["cycle_controls"], dataset.controls[:8], cycle_weight=0.1)[0]

    loss().backward()
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        ends = []
        with torch.no_grad():
            for shift in (1e-6, -2e-6, 1e-6):  # there, to the other side, and back
                parameter += shift * direction
                ends.append(loss())
        slope = float(ends[0] - ends[1]) / 2e-6
        assert float((parameter.grad * direction).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-7), name


def test_last_cycle_gradient_is_that_of_earlier_cycles_without_gradient(scaled, dataset, problems):
    truncated, full = scaled(LastCycleGradient), scaled()
    optimal = dataset.controls[:8].float()
    got = gradients(truncated, truncated(*problems)["cycle_controls"], optimal)
    by_hand = gradients(full, refined_by_hand(full, *problems, first_gradient_cycle=2), optimal)
    whole = gradients(full, full(*problems)["cycle_controls"], optimal)
    assert torch.equal(truncated(*problems)["controls"], full(*problems)["controls"])
    for name in got:
        torch.testing.assert_close(got[name], by_hand[name], rtol=1e-4, atol=1e-6)
        assert not torch.allclose(got[name], whole[name], rtol=1e-2), name


def told(model, change):
    """Let the feedback of a network tell its signal as ``change`` makes it."""
    source = getattr(model.feedback, "inner", model.feedback)
    return source.register_forward_hook(lambda module, inputs, output: (change(output[0]), output[1]))


def test_the_signal_reaches_the_controls_of_every_cycle_but_not_the_proposal(scaled, problems):
    model = scaled()
    before = model(*problems)["cycle_controls"]
    told(model, lambda error: error + 0.5)
    after = model(*problems)["cycle_controls"]
    assert torch.equal(before[0], after[0])
    assert not any(torch.equal(b, a) for b, a in zip(before[1:], after[1:]))


@pytest.mark.parametrize("feedback", [FinalError, NoFeedback])
def test_the_matrices_of_the_system_are_seen_only_through_feedback(scaled, problems, feedback):
    heavy = LinearSystem(CART.A, CART.B / 3, CART.dt)
    light, heavy = (scaled(feedback=feedback, system=system)(*problems)["controls"] for system in (CART, heavy))
    assert torch.equal(light, heavy) != (feedback is FinalError)


def test_final_error_is_where_the_controls_end_minus_the_target(scaled, dataset):
    model = scaled()
    x0, xT, u = dataset.initial_states.float(), dataset.target_states.float(), dataset.controls.float()
    arrived, gain = model.feedback(x0, xT, u)
    assert float(arrived.abs().max()) < 1e-5 and gain == 1  # the teacher arrives
    missed, _ = model.feedback(x0, xT + torch.tensor([0.3, -0.2]), u)
    torch.testing.assert_close(missed, (torch.tensor([-0.3, 0.2]) / model.state_scale).expand(len(x0), 2), rtol=0, atol=1e-5)


def test_a_proportional_network_rests_where_it_arrives(scaled, problems):
    model = scaled(**VARIANTS["proportional"])
    moved = model(*problems)["cycle_controls"].detach().diff(dim=0).norm(dim=(2, 3))
    hook = told(model, lambda error: 1e-4 * error)
    rested = model(*problems)["cycle_controls"].detach().diff(dim=0).norm(dim=(2, 3))
    assert bool((moved > 0).all()) and float((rested / moved).max()) < 1e-2
    hook.remove()
    told(model, torch.zeros_like)
    assert float(model(*problems)["cycle_controls"].detach().diff(dim=0).abs().max()) < 1e-5


def test_scaling_is_the_root_mean_square_of_the_dataset(scaled, dataset):
    model = scaled()
    states = np.concatenate([dataset.initial_states, dataset.target_states])
    np.testing.assert_allclose(model.state_scale, np.sqrt((states**2).mean(axis=0)), rtol=1e-6)
    np.testing.assert_allclose(model.control_scale, np.sqrt((dataset.controls.numpy()**2).mean(axis=(0, 1))), rtol=1e-6)


# ---------------------------------------------------------------- ways to call it

def test_trace_shows_the_refinement_of_forward(scaled, problems):
    model = scaled(H_cycles=3, L_cycles=4)
    trace = model.trace(*problems)
    assert torch.equal(trace.controls, model(*problems)["cycle_controls"])
    assert {name: tuple(getattr(trace, name).shape) for name in ("controls", "z_initial", "z_H", "z_L")} == {
        "controls": (4, 8, 15, 1), "z_initial": (8, 16), "z_H": (4, 8, 16), "z_L": (3, 5, 8, 16)}
    values = [*trace.carry, *(getattr(trace, field.name) for field in dataclasses.fields(trace) if field.name != "carry")]
    assert not any(value.requires_grad for value in values)
    assert torch.equal(trace.initial_state, problems[0]) and torch.equal(trace.target_state, problems[1])


def test_trace_keeps_each_latent_in_its_place(scaled, problems):
    model = scaled(H_cycles=3, L_cycles=2)
    trace = model.trace(*problems)
    assert torch.equal(trace.z_H[0], trace.z_initial) and not trace.z_L[0, 0].any()
    assert torch.equal(trace.z_L[1:, 0], trace.z_L[:-1, -1])  # each cycle goes on with the z_L of the one before
    for h in range(3):
        torch.testing.assert_close(trace.z_H[h + 1], model.block(trace.z_H[h] + trace.z_L[h, -1]))


def test_the_trace_of_one_problem_is_its_share_of_the_batch(scaled, problems):
    model = scaled()
    one, alone = model.trace(*problems).one(2), model.trace(problems[0][2:3], problems[1][2:3])
    for name, batch in {"initial_state": 0, "target_state": 0, "controls": 1, "z_initial": 0, "z_H": 1, "z_L": 2}.items():
        expected = getattr(alone, name).squeeze(batch)
        torch.testing.assert_close(getattr(one, name), expected, rtol=0, atol=1e-5)


def test_fewer_or_more_cycles_are_the_same_refinement_cut_or_continued(scaled, problems):
    model = scaled(H_cycles=3)
    controls = model(*problems)["cycle_controls"]
    for H_cycles in (0, 1, 2, 6):
        output = model(*problems, H_cycles=H_cycles)
        shared = min(H_cycles, 3) + 1
        assert output["cycle_controls"].shape[0] == H_cycles + 1
        assert torch.equal(output["cycle_controls"][:shared], controls[:shared])
        assert torch.equal(output["controls"], output["cycle_controls"][-1])
    assert model.trace(*problems, H_cycles=5).z_L.shape[:2] == (5, 5)
    assert torch.equal(model(*problems)["cycle_controls"], controls)  # nothing stayed behind on the module


@each_variant
def test_a_run_goes_on_from_its_carry_as_if_it_had_not_stopped(scaled, problems, variant):
    model = scaled(**variant)
    whole, end = model.recursive_reasoning(*problems, 3)
    first, carry = model.recursive_reasoning(*problems, 1)
    rest, end_of_rest = model.recursive_reasoning(*problems, 2, carry)
    assert torch.equal(torch.cat([first, rest[1:]]), whole)
    assert all(torch.equal(one, other) for one, other in zip(end, end_of_rest))
    trace, start = model.trace(*problems, 3), model.trace(*problems, 1)
    joined = start.followed_by(model.trace(*problems, 2, start.carry))
    for name in ("controls", "z_initial", "z_H", "z_L"):
        assert torch.equal(getattr(joined, name), getattr(trace, name)), name


def test_the_recursion_is_two_loops_without_a_branch():
    tree = ast.parse(textwrap.dedent(inspect.getsource(TinyRecursiveControl.recursive_reasoning)))
    kinds = [type(node) for node in ast.walk(tree)]
    assert kinds.count(ast.For) == 2 and not {ast.If, ast.IfExp, ast.While, ast.Try, ast.With} & set(kinds)
    body = tree.body[0].body[1:]  # without its docstring
    assert body[-1].end_lineno - body[0].lineno < 18


def test_a_batch_has_the_answers_of_its_rows(scaled, problems):
    model = scaled()
    rows = torch.cat([model(x0[None], xT[None])["controls"] for x0, xT in zip(*problems)])
    torch.testing.assert_close(model(*problems)["controls"], rows, rtol=0, atol=1e-6)


@pytest.mark.parametrize("leading", [(), (3,), (2, 4)])
def test_solve_has_the_interface_of_a_teacher(scaled, leading):
    model = scaled()
    x0, xT = torch.rand(2, *leading, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    controls = model.solve(x0, xT)
    assert controls.dtype == torch.float64 and tuple(controls.shape) == (*leading, 15, 1) and not controls.requires_grad
    torch.testing.assert_close(controls.reshape(-1, 15, 1), model(x0.reshape(-1, 2), xT.reshape(-1, 2))["controls"].double())


@pytest.mark.parametrize("call", ["forward", "trace"])
@pytest.mark.parametrize(("bad", "error", "reason"), [
    (torch.zeros(4, 3), ValueError, r"has shape \[4, 3\]; needs \[\.\.\., any, 2\]"),
    (torch.zeros(2), ValueError, r"has shape \[2\]; needs"),
    (torch.zeros(1, 4, 2), ValueError, r"has shape \[1, 4, 2\]; needs \[batch, 2\]"),
    (torch.full((4, 2), torch.nan), ValueError, "holds NaN or infinite values"),
    (torch.zeros(4, 2, dtype=torch.int64), TypeError, r"has dtype torch\.int64"),
    ("here", TypeError, "cannot be read"),
])
def test_states_that_make_no_sense_are_refused_by_name(tiny, call, bad, error, reason):
    model, good = tiny(), torch.zeros(4, 2)
    with pytest.raises(error, match=f"initial_state {reason}"):
        getattr(model, call)(bad, good)
    with pytest.raises(error, match=f"target_state {reason}"):
        getattr(model, call)(good, bad)


def test_starts_and_targets_of_different_number_are_refused(tiny):
    with pytest.raises(ValueError, match="target_state has 3 rows and initial_state 4"):
        tiny()(torch.zeros(4, 2), torch.zeros(3, 2))


@pytest.mark.parametrize(("H_cycles", "error"), [(-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_a_number_of_cycles_that_makes_no_sense_is_refused(tiny, H_cycles, error):
    with pytest.raises(error, match=f"H_cycles={H_cycles}"):
        tiny()(torch.zeros(1, 2), torch.zeros(1, 2), H_cycles=H_cycles)


@pytest.mark.parametrize(("change", "error", "reason"), [
    ({"H_cycles": 0}, ValueError, "H_cycles=0 is too small"),
    ({"latent_dim": 16.0}, TypeError, r"latent_dim=16\.0 is not a whole number"),
    ({"latent_dim": True}, TypeError, "latent_dim=True is not a whole number"),
])
def test_a_configuration_that_makes_no_sense_is_refused(change, error, reason):
    with pytest.raises(error, match=reason):
        TRCConfig(**change)


def test_a_system_that_does_not_fit_is_refused(tiny):
    with pytest.raises(ValueError, match="does not fit state_dim=3, control_dim=1"):
        tiny(state_dim=3)


# ---------------------------------------------------------------- weights and checkpoints

def test_seed_decides_the_weights_and_nothing_else_is_touched(tiny):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = tiny(seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = tiny(seed=3).state_dict(), tiny(seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoder.0.weight"], other["encoder.0.weight"])


@each_variant
def test_a_loaded_model_gives_the_same_controls_to_the_bit(scaled, problems, tmp_path, variant):
    model = scaled(**variant, seed=5, system=DoubleIntegrator(0.2))
    model.recipe = {"note": "by hand", "epochs": 3}
    model.save(tmp_path / "model.pt")
    loaded = TinyRecursiveControl.load(tmp_path / "model.pt")
    assert torch.equal(loaded(*problems)["cycle_controls"], model(*problems)["cycle_controls"])
    assert (loaded.architecture, loaded.recipe, loaded.system.dt) == (model.architecture, model.recipe, 0.2)
    assert type(loaded) is type(model)
    assert not loaded.training


def test_a_float64_network_stays_one(scaled, problems, tmp_path):
    model, problems = scaled().double(), [states.double() for states in problems]
    model.save(tmp_path / "model.pt")
    loaded = TinyRecursiveControl.load(tmp_path / "model.pt")
    assert loaded.state_scale.dtype == torch.float64
    assert torch.equal(loaded(*problems)["controls"], model(*problems)["controls"])


def test_a_configuration_of_numpy_numbers_can_be_saved_and_loaded(tiny, tmp_path):
    tiny(H_cycles=np.int64(2)).save(tmp_path / "model.pt")
    assert TinyRecursiveControl.load(tmp_path / "model.pt").config.H_cycles == 2


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_saved(tiny, tmp_path, broken):
    model = tiny()
    with torch.no_grad():
        model.decoder[0].bias[3] = broken
    with pytest.raises(ValueError, match=r"the model is not saved: decoder\.0\.bias holds NaN or infinite"):
        model.save(tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(tiny, tmp_path, share):
    tiny().save(tmp_path / "model.pt")
    whole = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(ValueError, match=r"model\.pt .*read as a checkpoint"):
        TinyRecursiveControl.load(tmp_path / "model.pt")


def test_a_missing_or_foreign_checkpoint_is_refused(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt does not exist"):
        TinyRecursiveControl.load(tmp_path / "none.pt")
    torch.save(tiny().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"weights\.pt is not a checkpoint of the kind trc_lib\.model"):
        TinyRecursiveControl.load(tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("weights: 1, 2, 3\n")
    with pytest.raises(ValueError, match=r"text\.pt .*read as a checkpoint"):
        TinyRecursiveControl.load(tmp_path / "text.pt")


def tamper_weight(checkpoint):
    checkpoint["weights"]["encoder.0.bias"][0] += 1e-7


def tamper_scale(checkpoint):
    checkpoint["weights"]["control_scale"] *= 2


def tamper_system(checkpoint):
    checkpoint["system"]["B"][0, 0] += 1e-12


def tamper_config(checkpoint):
    checkpoint["config"]["H_cycles"] = 4


def tamper_recipe(checkpoint):
    checkpoint["recipe"]["trained_by"] = "somebody else"


@pytest.mark.parametrize("tamper", [tamper_weight, tamper_scale, tamper_system, tamper_config, tamper_recipe])
def test_a_checkpoint_that_was_changed_is_refused(tiny, tmp_path, tamper):
    path = tmp_path / "model.pt"
    tiny().save(path)
    checkpoint = torch.load(path, weights_only=True)
    tamper(checkpoint)
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=r"model\.pt was changed after it was saved"):
        TinyRecursiveControl.load(path)


@pytest.mark.parametrize("change", [
    {"config": {"latent_dim": 32}}, {"config": {"no_such_field": 1}}, {"config": {"H_cycles": 0}}, {"weights": {}},
    {"system": {"kind": "LinearSystem", "A": torch.eye(3), "B": torch.ones(3, 1), "dt": 0.1}}, {"system": {}},
    {"system": {"kind": "Pendulum"}}, {"class": "MLP"}, {"feedback": {"kind": "Oracle"}}], ids=str)
def test_a_checkpoint_whose_parts_do_not_fit_is_refused(tiny, tmp_path, change):
    path = tmp_path / "model.pt"
    tiny().save(path)
    contents = io.load_checkpoint(path, "trc_lib.model", 3)
    io.save_checkpoint(path, "trc_lib.model", 3, contents | change)  # with a fingerprint that is right
    with pytest.raises(ValueError, match=r"model\.pt is refused"):
        TinyRecursiveControl.load(path)


def test_a_trace_is_immutable_and_holds_nothing_of_the_callers(tiny):
    x0, xT = torch.zeros(2, 2), torch.ones(2, 2)
    trace = tiny().trace(x0, xT)
    with pytest.raises(dataclasses.FrozenInstanceError):
        trace.controls = None
    x0.fill_(5), xT.fill_(5)
    assert not trace.initial_state.any() and (trace.target_state == 1).all()


# ---------------------------------------------------------------- limits of the controls


@pytest.mark.parametrize("limit", [0.1, 1.0])
def test_controls_stay_within_their_limits_in_every_cycle(limit, dataset):
    model = TinyRecursiveControl.create_two_level_small(DoubleIntegrator(control_limit=limit), seed=2)
    free = TinyRecursiveControl.create_two_level_small(DoubleIntegrator(), seed=2)
    for each in (model, free):
        each.set_scaling(dataset)
        each.initial_generator[-1].weight.data.mul_(30)  # so that many would be beyond
    x0, xT = dataset.initial_states.float(), dataset.target_states.float()
    cycles, unlimited = (each(x0, xT)["cycle_controls"].detach().double() for each in (model, free))
    held = float(cycles.abs().max())
    assert 0.999999 * limit < held <= limit and float((cycles.abs() == held).double().mean()) > 0.1   # held to the bit
    assert not bool(((cycles.abs() > (1 - 4e-7) * limit) & (cycles.abs() < held)).any())
    torch.testing.assert_close(cycles[0], unlimited[0].clamp(-limit, limit), rtol=1e-6, atol=1e-7)


def test_a_control_beyond_its_limit_still_has_a_gradient():
    raw = torch.tensor([-3.0, 0.5, 3.0], requires_grad=True)
    controls = straight_through_clamp(raw, torch.tensor(1.0))
    assert controls.tolist() == [-1.0, 0.5, 1.0]
    (controls - torch.tensor([-1.0, 1.0, 0.0])).square().sum().backward()
    assert raw.grad.tolist() == [0.0, -1.0, 2.0]  # at rest where the limit is right, drawn back where it is not


def test_the_limit_travels_with_the_checkpoint(tmp_path):
    model = TinyRecursiveControl.create_two_level_small(DoubleIntegrator(control_limit=0.7))
    model.save(tmp_path / "model.pt")
    assert TinyRecursiveControl.load(tmp_path / "model.pt").system.control_limit.tolist() == [0.7]


# ---------------------------------------------------------------- told of a cost

@pytest.fixture(scope="module")
def oscillator():
    problem = van_der_pol(horizon=12)
    return problem, problem.dataset(24, seed=0)


def told_of(problem, wrap=lambda inner: inner):
    teacher = problem.teacher
    feedback = wrap(CostGradient(teacher.system, teacher.quadratic_cost, 12))
    return TinyRecursiveControl.create_two_level_small(teacher.system, 0, feedback, horizon=12).double()


def test_the_gradient_of_the_cost_is_fed_back_over_that_of_the_first_proposals(oscillator):
    problem, data = oscillator
    model = told_of(problem)
    model.set_scaling(data)
    x0, xT, u = data.initial_states, data.target_states, 0.4 * data.controls
    told = model.feedback(x0, xT, u)[0] * model.feedback.scale

    def total(k, h):
        moved = u.clone()
        moved[:, k] += h
        return problem.teacher.cost(x0, xT, moved)

    differences = torch.stack([(total(k, 1e-5) - total(k, -1e-5)) / 2e-5 for k in range(12)], dim=1)
    torch.testing.assert_close(told, differences, rtol=1e-5, atol=1e-5)
    proposals = model.predict(x0, xT, 0)["controls"]
    first, _ = model.feedback(x0, xT, proposals)
    torch.testing.assert_close(first.square().sum(dim=1).mean(), torch.ones((), dtype=torch.float64), rtol=1e-4, atol=1e-4)


def test_a_slope_that_pushes_against_a_limit_is_not_told(oscillator):
    problem, data = oscillator
    model = told_of(problem)
    model.set_scaling(data)
    ends = torch.where(torch.rand(24, 12, generator=torch.Generator().manual_seed(0)) < 0.5, 2.0, -2.0).double()
    told, _ = model.feedback(data.initial_states, data.target_states, model.to_physical(model.clamp(3 * ends / model.control_scale)))
    states = problem.teacher.system.rollout_unchecked(data.initial_states, ends[..., None])
    slopes = problem.teacher.quadratic_cost.gradient(problem.teacher.system, states, ends[..., None], data.target_states)[..., 0]
    outward = slopes * ends < 0  # the cost would fall beyond the limit
    assert bool(outward.any()) and bool((~outward).any())
    assert bool((told[outward] == 0).all()) and bool((told[~outward] != 0).all())


@pytest.mark.parametrize("wrap", [lambda inner: inner, Proportional], ids=["raw", "proportional"])
def test_a_network_that_is_told_of_a_cost_is_saved_with_it(oscillator, tmp_path, wrap):
    problem, data = oscillator
    model = told_of(problem, wrap).float()
    model.set_scaling(data)
    model.save(tmp_path / "model.pt")
    loaded = TinyRecursiveControl.load(tmp_path / "model.pt")
    states = data.initial_states.float(), data.target_states.float()
    assert torch.equal(loaded(*states)["cycle_controls"], model(*states)["cycle_controls"])
    cost = getattr(loaded.feedback, "inner", loaded.feedback).cost
    for name, matrix in problem.teacher.quadratic_cost.contents().items():
        assert torch.equal(cost.contents()[name], matrix)


def test_a_cost_that_does_not_fit_the_system_is_refused(oscillator):
    problem, _ = oscillator
    with pytest.raises(ValueError, match="cost is for 2 states and 1 controls"):
        CostGradient(LinearSystem(torch.eye(2).double(), torch.eye(2).double(), 0.1), problem.teacher.quadratic_cost, 12)


def test_a_feedback_that_does_not_fit_the_network_is_refused(oscillator):
    problem, _ = oscillator
    with pytest.raises(TypeError, match="feedback=True is not accepted; needs a Feedback"):
        TinyRecursiveControl(feedback=True)
    with pytest.raises(ValueError, match="feedback was made for another system"):
        TinyRecursiveControl(feedback=FinalError(DoubleIntegrator(0.2)))
    with pytest.raises(ValueError, match="feedback was made for 12 steps; the network has 15"):
        TinyRecursiveControl(TRCConfig(), problem.teacher.system,
                             feedback=Proportional(CostGradient(problem.teacher.system, problem.teacher.quadratic_cost, 12)))


def test_parts_hold_every_weight_once(tiny):
    parts = tiny().parts
    names = [{id(weight) for module in parts[part] for weight in module.parameters()} for part in ("proposal", "cycles", "all")]
    assert names[0] | names[1] == names[2] and not names[0] & names[1] and names[0] and names[1]
