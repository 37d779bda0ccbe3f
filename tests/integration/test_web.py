"""What a web page computes, in Node: networks, laws and systems give PyTorch's numbers."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests import ROOT
from trc_lib import problems, web
from trc_lib.costs import QuadraticCost
from trc_lib.course.cli import run
from trc_lib.model import (
    CostGradient,
    FinalError,
    NoFeedback,
    Proportional,
    TinyRecursiveControl,
    TRCConfig,
)
from trc_lib.model.ablations import SingleLatent
from trc_lib.systems import DoubleIntegrator, LinearSystem, System, VanDerPol
from trc_lib.teachers import (
    BoundedMinimumEnergyController,
    IterativeLQR,
    MinimumEnergyController,
)

WEB, LABORATORY = ROOT / "trc_lib/web", ROOT / "data/pretrained/laboratory"
SCRIPT = """
import {{ readFileSync }} from "node:fs";
import {{ read_network }} from "{web}/files.js";
import {{ TinyRecursiveControl }} from "{web}/recursion.js";
import {{ Program, rollout }} from "{web}/systems.js";
import {{ bounded_minimum_energy, linear_law, minimum_energy }} from "{web}/laws.js";
const given = JSON.parse(readFileSync(0)), floats = (each) => Float64Array.from(each);
const plain = (value) => ArrayBuffer.isView(value) ? Array.from(value)
  : Array.isArray(value) ? value.map(plain) : value;
{body}
console.log(JSON.stringify(plain(result)));
"""


def in_node(body, given):
    """What ``body`` leaves in ``result``, for ``given``, as NumPy or plain values."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node; traces and laws are tested in a browser, too")
    script = SCRIPT.format(web=WEB.as_uri(), body=body)
    ran = subprocess.run([node, "--input-type=module", "--eval", script], input=json.dumps(given),
                         capture_output=True, text=True, timeout=120, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    return json.loads(ran.stdout)


TRACES = """
const net = new TinyRecursiveControl(await read_network(readFileSync(given.path)));
const result = given.cycles.map((H_cycles) => given.problems.map(([x0, xT]) => {
  const { controls, z_H, z_L } = net.trace(floats(x0), floats(xT), H_cycles);
  return [controls, z_H, z_L];
}));
"""


def traces(model, x0, xT, cycles, folder):
    """Controls and latents in Node: for each number of cycles three arrays, the problems first."""
    path = folder / "network.trcw"
    web.export_web(model, path)
    found = in_node(TRACES, {"path": str(path), "cycles": cycles,
                             "problems": list(zip(x0.tolist(), xT.tolist()))})
    return [[torch.tensor([each[part] for each in run], dtype=torch.float64) for part in range(3)]
            for run in found]


def expected(model, x0, xT, H_cycles):
    trace = model.trace(x0, xT, H_cycles)
    z_L = torch.cat([torch.zeros_like(trace.z_H[:1]), trace.z_L[:, 1:].flatten(0, 1)])
    return [value.double().transpose(0, 1).flatten(2)
            for value in (trace.controls, trace.z_H, z_L)]


@pytest.fixture
def as_in_float32(monkeypatch):
    """RMSNorm of float64 networks with the epsilon of float32, in which they were trained."""
    norm, epsilon = F.rms_norm, torch.finfo(torch.float32).eps
    monkeypatch.setattr(F, "rms_norm", lambda x, shape: norm(x, shape, eps=epsilon))


CASES = {"proportional_root": problems.double_integrator, "recursive": problems.double_integrator,
         "bounded_pretrained_mse": problems.bounded_inputs,
         "van_der_pol_gradient": problems.weak_van_der_pol}


@pytest.mark.parametrize("name", CASES)
def test_every_cycle_and_every_latent_is_that_of_pytorch(name, tmp_path, as_in_float32):
    path, problem = LABORATORY / f"{name}.pt", CASES[name]()
    model = TinyRecursiveControl.load(path)
    data = problem.dataset(200, seed=7)
    x0, xT = data.initial_states, data.target_states
    (found,) = traces(model, x0, xT, [3], tmp_path)
    controls = expected(model, x0, xT, 3)[0]
    torch.testing.assert_close(found[0], controls, rtol=0, atol=2e-5)  # float32's own: 1.3e-5
    for mine, right in zip(found, expected(model.double(), x0, xT, 3)):
        torch.testing.assert_close(mine, right, rtol=0, atol=1e-5)


class Pendulum(System):
    """Other operations than the course's: sin, a quotient, a clamp; two controls."""

    def __init__(self, size: float = 1.0):
        self.size = size
        super().__init__(2, 2, 0.1, [[-0.5 * size, 2.0 * size], [-3.0 * size, 1.0 * size]])

    def dynamics(self, state, control):
        angle, speed = (state / self.size).unbind(-1)
        push, brake = (control / self.size).unbind(-1)
        turn = torch.sin(angle) / (1 + speed**2) + push - brake.clamp(-1, 1) * torch.tanh(speed)
        return self.size * torch.stack([angle + 0.1 * speed, speed + 0.1 * turn], dim=-1)


def _cost(m):
    Q = [[2.0, 0.3], [0.3, 1.0]]
    return QuadraticCost(Q, (0.1 * torch.eye(m) + 0.02).tolist(), Q)


FEEDBACKS = {
    "none": lambda system, horizon: NoFeedback(system),
    "error": lambda system, horizon: FinalError(system),
    "gradient": lambda system, horizon: CostGradient(system, _cost(system.control_dim), horizon),
    "scaled error": lambda system, horizon: Proportional(FinalError(system)),
    "scaled gradient": lambda system, horizon: Proportional(
        CostGradient(system, _cost(system.control_dim), horizon))}
SYSTEMS = {"cart": DoubleIntegrator(0.1), "bounded": DoubleIntegrator(0.5, 0.3),
           "one-sided": DoubleIntegrator(0.2, [[0.1, 2.0]]),
           "oscillator": VanDerPol(2.5, 0.1, None), "pendulum": Pendulum(),
           "thousand": Pendulum(1000.0), "thousandth": Pendulum(0.001)}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_other_sizes_systems_units_and_feedbacks(system, feedback, tmp_path, as_in_float32):
    system, size = SYSTEMS[system], getattr(SYSTEMS[system], "size", 1.0)
    generator = torch.Generator().manual_seed(3)
    config = TRCConfig(control_dim=system.control_dim, horizon=7, latent_dim=10, block_layers=1,
                       block_hidden=6, head_hidden=9, H_cycles=2, L_cycles=1)
    model = TinyRecursiveControl(config, system, 5, FEEDBACKS[feedback](system, 7))
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("scale"):
                value.copy_(size * (0.5 + torch.rand(value.shape, generator=generator)))
    x0, xT = size * torch.randn(2, 20, 2, generator=generator, dtype=torch.float64)
    tried = [0, 1, 4]
    for cycles, found in zip(tried, traces(model, x0, xT, tried, tmp_path)):
        right = expected(model.double(), x0, xT, cycles)
        units = size * torch.ones(3).where(torch.arange(3) == 0, 1 / size)
        for mine, theirs, unit in zip(found, right, units.tolist()):
            torch.testing.assert_close(mine / unit, theirs / unit, rtol=0, atol=1e-5)


def test_a_run_goes_on_from_its_carry(tmp_path):
    model = TinyRecursiveControl.load(LABORATORY / "recursive.pt")
    web.export_web(model, tmp_path / "network.trcw")
    whole, parts = in_node("""
const net = new TinyRecursiveControl(await read_network(readFileSync(given)));
const x0 = floats([1, -2]), xT = floats([0.5, 0]), first = net.trace(x0, xT, 2);
const later = net.trace(x0, xT, 3, first.carry);
const result = [net.trace(x0, xT, 5).controls, [...first.controls, ...later.controls.slice(1)]];
""", str(tmp_path / "network.trcw"))
    np.testing.assert_array_equal(whole, parts)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "network.trcw"
    web.export_web(TinyRecursiveControl.load(LABORATORY / "recursive.pt"), path)
    contents = path.read_bytes()
    body = """
let result = "accepted";
try { await read_network(readFileSync(given)); } catch (error) { result = error.message; }
"""
    assert in_node(body, str(path)) == "accepted"
    for at in (9, 900, len(contents) // 2, len(contents) - 2):
        path.write_bytes(contents[:at] + bytes([contents[at] ^ 1]) + contents[at + 1:])
        assert in_node(body, str(path)) == "the file of the network is damaged"
    for wrong in (contents[:-1], contents[:len(contents) // 3]):
        path.write_bytes(wrong)
        assert in_node(body, str(path)) == "the file of the network is damaged"
    for wrong in (b"", b"TRC", b"PK" + contents):
        path.write_bytes(wrong)
        assert in_node(body, str(path)) == "this is not a network for the web"


LAW = """
const law = given.kind === "linear" ? linear_law(given.gain) : bounded_minimum_energy(
  { ...given, low: given.low.map(Number), high: given.high.map(Number) });
const result = given.problems.map(([x0, xT]) => law(x0, xT));
"""
LAWS = {
    "cart": MinimumEnergyController(), "short": MinimumEnergyController(DoubleIntegrator(0.5), 2),
    "long": MinimumEnergyController(DoubleIntegrator(0.05), 200),
    "bounded": BoundedMinimumEnergyController(),
    "one-sided": BoundedMinimumEnergyController(DoubleIntegrator(0.2, [[-0.4, 3.0]]), 40),
    "half-open": BoundedMinimumEnergyController(DoubleIntegrator(0.3, [[-0.5, float("inf")]]), 12),
    "two controls": BoundedMinimumEnergyController(LinearSystem(
        [[1.0, 0.1, 0.0], [-0.1, 0.95, 0.1], [0.0, -0.1, 1.02]], [[0.0, 0.1], [0.1, 0.0], [0.2, 0]],
        0.1, [1.0, 0.3]), 20),
    "tiny": BoundedMinimumEnergyController(DoubleIntegrator(0.33, 1e-4))}


@pytest.mark.parametrize("name", LAWS)
def test_laws_are_those_of_the_teachers(name):
    """Those of the bounded teacher, which is exact to 3e-9, with their equations solved again."""
    teacher = LAWS[name]
    n, size = teacher.system.state_dim, 1e-4 if name == "tiny" else 1.0
    x0, xT = 2.5 * size * (2 * torch.rand(2, 300, n, dtype=torch.float64,
                                          generator=torch.Generator().manual_seed(1)) - 1)
    right, solved = teacher.try_solve(x0, xT)
    found = in_node(LAW, web.law(teacher) | {"problems": list(zip(x0.tolist(), xT.tolist()))})
    assert [each is not None for each in found] == solved.tolist()
    assert solved.any()
    right = right.flatten(1)
    for i in solved.nonzero().squeeze(1).tolist():
        answer = right[i] if teacher.has_ruler else _polished(teacher, x0[i], xT[i], right[i])
        torch.testing.assert_close(torch.tensor(found[i], dtype=torch.float64), answer, rtol=0,
                                   atol=1e-9 * max(float(answer.abs().max()), 1e-4))


def _polished(teacher, x0, xT, controls):
    """The least-energy controls that have the same ones at their limits as ``controls``."""
    F_N, C = (each[-1] for each in teacher.system.prediction_matrices(teacher.horizon))
    low, high = (bound.repeat(teacher.horizon) for bound in teacher.system.bounds)
    free = (controls > low) & (controls < high)
    wanted = xT - F_N @ x0 - C[:, ~free] @ controls[~free]
    polished = controls.clone()
    polished[free] = torch.linalg.lstsq(C[:, free], wanted[:, None], driver="gelsd").solution[:, 0]
    return polished


@pytest.mark.parametrize("horizon, dt", [(2, 0.5), (15, 0.33), (60, 0.05), (60, 0.5)])
def test_the_minimum_energy_law_of_a_page(horizon, dt):
    system = DoubleIntegrator(dt)
    teacher = MinimumEnergyController(system, horizon)
    generator = torch.Generator().manual_seed(horizon)
    x0, xT = 2.5 * torch.randn(2, 20, 2, dtype=torch.float64, generator=generator)
    found = in_node("""
const law = minimum_energy(given.A, given.B, given.horizon);
const result = given.problems.map(([x0, xT]) => law(x0, xT));
""", {"A": system.A.tolist(), "B": system.B.tolist(), "horizon": horizon,
      "problems": list(zip(x0.tolist(), xT.tolist()))})
    right = teacher.solve(x0, xT).flatten(1)
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), right, rtol=0,
                               atol=1e-9 * float(right.abs().max()))


class Everything(System):
    """A step that uses every operation which a page knows."""

    def __init__(self):
        super().__init__(2, 1, 0.1)

    def dynamics(self, state, control):
        x, v = state.unbind(-1)
        u = control[..., 0]
        a, b = x.abs() + 0.5, torch.sigmoid(v)
        terms = [a.sqrt(), a.log(), x.exp().clamp(max=3), x.sin(), v.cos(), b.tan(), b.asin(),
                 b.acos(), x.atan(), b.sinh(), b.cosh(), v.tanh(), x.floor(), v.ceil(), a.log1p(),
                 b.expm1(), torch.atan2(x, v), torch.hypot(x, v), torch.fmod(x, a), a**1.7,
                 torch.round(2 * x), torch.maximum(x, v), torch.minimum(x, v), -x, x / a,
                 torch.where((x > v) & ~(u >= 0) | torch.logical_xor(x <= -1, v < 0), x, v),
                 torch.remainder(x, 0.7),
                 torch.where(x == v, x, 2 * v) * (v != 0)]
        total = sum((i + 1) * term for i, term in enumerate(terms)) / 100
        return torch.stack([x + 0.1 * v + u, v + 0.1 * total], dim=-1)


def test_every_operation_is_pytorchs():
    system = Everything()
    x0 = torch.tensor([[0.3, -0.2], [-1.25, 1.25], [0.25, 0.25], [0.75, -2.0], [-0.5, 0.0]],
                      dtype=torch.float64)
    u = torch.randn(5, 6, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = in_node("""
const step = Program(given.system.step);
const result = given.x0.map((x0, i) => rollout(step, x0, floats(given.u[i]), 1));
""", {"system": web.system(system), "x0": x0.tolist(), "u": u[..., 0].tolist()})
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), system.rollout(x0, u),
                               rtol=0, atol=1e-12)


class Asking(System):
    """A step that asks for a value, as `if` does."""

    def __init__(self):
        super().__init__(1, 1, 0.1)

    def dynamics(self, state, control):
        return state if float(state.sum()) > 0 else control


class Ball(System):
    """Limits that are no box."""

    def __init__(self):
        super().__init__(1, 2, 0.1)

    def dynamics(self, state, control):
        return state + control[..., :1]

    def within(self, controls):
        return controls / controls.norm(dim=-1, keepdim=True).clamp(min=1)


class Erf(System):
    """An operation that JavaScript lacks."""

    def __init__(self):
        super().__init__(1, 1, 0.1)

    def dynamics(self, state, control):
        return torch.erf(state) + control


@pytest.mark.parametrize("system, word", [(Asking(), "asks for a value"), (Ball(), "no box"),
                                          (Erf(), "has no erf")])
def test_systems_that_a_page_cannot_compute_are_refused(system, word):
    with pytest.raises(ValueError, match=word):
        web.system(system)


def test_networks_that_a_page_cannot_run_are_refused():
    with pytest.raises(ValueError, match="SingleLatent; a web page knows the recursion of"):
        web.network(SingleLatent(TRCConfig()))
    with pytest.raises(TypeError, match="model"):
        web.network("a network")
    broken = TinyRecursiveControl(TRCConfig())
    with torch.no_grad():
        broken.decoder[0].bias[0] = torch.nan
    with pytest.raises(ValueError, match="not all finite"):
        web.network(broken)
    nested = Proportional(Proportional(FinalError(broken.system)))
    with pytest.raises(ValueError, match="Proportional is not known"):
        web.network(TinyRecursiveControl(TRCConfig(), feedback=nested))
    some = FinalError(broken.system, components=[0])
    with pytest.raises(ValueError, match="FinalError of some components is not known"):
        web.network(TinyRecursiveControl(TRCConfig(), feedback=some))


def test_a_law_is_given_where_a_page_has_it():
    oscillator = IterativeLQR(VanDerPol(), 10, _cost(1))
    assert web.law(oscillator) is None
    with pytest.raises(TypeError, match="teacher"):
        web.law("least energy")


def test_the_command_writes_small_files(tmp_path, capsys):
    out = tmp_path / "network.trcw"
    words = ["export", "--checkpoint", str(LABORATORY / "van_der_pol_gradient.pt"), "--format",
             "web", "--out", str(out)]
    assert run(words) == 0
    assert out.stat().st_size < 700_000
    assert f"Exported to {out}, 0.66 MB" in capsys.readouterr().out
    assert run([*words, "--H-cycles", "3"]) == 1
    assert "a web page runs as many as it likes" in capsys.readouterr().err
