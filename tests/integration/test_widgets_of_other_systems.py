"""Widgets of systems with other sizes, units, limits and magnitudes than the cart's."""

import ipywidgets
import matplotlib.lines
import matplotlib.patches
import numpy as np
import pytest
import torch

from trc_lib.course import widgets
from trc_lib.course.widgets.canvas import Canvas
from trc_lib.course.widgets.microscope import Microscope, decades
from trc_lib.course.widgets.phase_plane import PhasePlane
from trc_lib.course.widgets.scene import axis_range, centre_of
from trc_lib.data import generate_dataset
from trc_lib.model import TinyRecursiveControl
from trc_lib.problems import van_der_pol
from trc_lib.systems import DoubleIntegrator, LinearSystem, System
from trc_lib.teachers import MinimumEnergyController, Teacher


class Pendulum(System):
    """Upright at angle 0, with a bounded torque."""

    def __init__(self, dt=0.05):
        super().__init__(2, 1, dt, 3.0, ("angle (rad)", "speed (rad/s)", "torque (N m)"))

    def dynamics(self, state, control):
        angle, speed = state.unbind(-1)
        speed = speed + self.dt * (9.81 * torch.sin(angle) + control[..., 0])
        return torch.stack([angle + self.dt * speed, speed], dim=-1)


class Quadrotor(System):
    """In a plane, with two thrusts of 0 to 10 N."""

    def __init__(self, dt=0.05):
        names = ("x (m)", "z (m)", "tilt (rad)", "vx (m/s)", "vz (m/s)", "rate (rad/s)")
        super().__init__(6, 2, dt, [[0.0, 10.0], [0.0, 10.0]],
                         (*names, "left thrust (N)", "right thrust (N)"))

    def dynamics(self, state, control):
        x, z, tilt, vx, vz, rate = state.unbind(-1)
        left, right = control.unbind(-1)
        vx = vx - self.dt * (left + right) * torch.sin(tilt)
        vz = vz + self.dt * ((left + right) * torch.cos(tilt) - 9.81)
        rate = rate + self.dt * 2 * (right - left)
        return torch.stack([x + self.dt * vx, z + self.dt * vz, tilt + self.dt * rate, vx, vz,
                            rate], dim=-1)


class Guess(Teacher):
    """Not optimal; has no answer where the first component of the start is in its last tenth."""

    def __init__(self, system, horizon, middle, last):
        self.middle, self.last = middle, last
        super().__init__(system, horizon)

    def try_solve(self, initial_state, target_state):
        x0, xT = (torch.as_tensor(state, dtype=torch.float64)
                  for state in (initial_state, target_state))
        m = self.system.control_dim
        turn = torch.cos(torch.linspace(0, 3, self.horizon)).double()
        share = torch.arange(1, m + 1) * (xT - x0)[..., :1]
        controls = self.middle + turn[:, None] * share[..., None, :]
        controls = controls.clamp(*self.system.bounds)
        solved = x0[..., 0] < self.last
        return controls.where(solved[..., None, None], torch.nan), solved


def _scaled_cart(scale, unit):
    """The cart in other units: states and controls are ``scale`` times the numbers."""
    cart = DoubleIntegrator()
    names = tuple(f"{name} ({unit})" for name in ("height", "climb", "push"))
    return MinimumEnergyController(LinearSystem(cart.A, cart.B, cart.dt, labels=names)), 2.5 * scale


def _room():
    """The temperature of a room, which a heater can only raise."""
    system = LinearSystem([[1.0]], [[0.01]], 60.0, [[0.0, float("inf")]],
                          ("temperature (K)", "heating (W)"))
    return Guess(system, 10, 50.0, 299.0), [[290.0, 300.0]]


CASES = {"pendulum": lambda: (Guess(Pendulum(), 20, 0.0, 0.36), [0.4, 1.0]),
         "quadrotor": lambda: (Guess(Quadrotor(), 12, 5.0, 0.9), [1.0, 1.0, 0.2, 0.5, 0.5, 0.2]),
         "room": _room, "large": lambda: _scaled_cart(1e3, "mm"),
         "small": lambda: _scaled_cart(1e-3, "km")}


def _network(teacher, data=None):
    """A small network, with the scales of a dataset."""
    model = TinyRecursiveControl.create_two_level_small(
        teacher.system, horizon=teacher.horizon, block_hidden=16, head_hidden=16, latent_dim=16)
    if data is not None:
        model.set_scaling(data)
    return model


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """Dataset, network and box of a system."""
    teacher, box = CASES[request.param]()
    data = generate_dataset(12, 0, teacher, box)
    return data, _network(teacher, data), box


@pytest.fixture
def drawn(monkeypatch):
    """The canvases that were drawn, the last at the end."""
    canvases, png = [], Canvas.png

    def record(self, text):
        canvases.append(self)
        return png(self, text)

    monkeypatch.setattr(Canvas, "png", record)
    return canvases


def _hold(canvas):
    """Whether the axes of a canvas hold all that is drawn, except free motion."""
    for name, artist in canvas.moving.items():
        if "no push at all" in name:
            continue
        if isinstance(artist, matplotlib.patches.StepPatch):
            values, edges, _ = artist.get_data()
            points = np.stack([edges[1:], values], axis=1)
        elif isinstance(artist, matplotlib.lines.Line2D) and not str(name).startswith("at_"):
            points = np.stack(np.broadcast_arrays(*artist.get_data()), axis=1).astype(float)
        else:
            continue
        points = points[np.isfinite(points).all(axis=1)]
        for values, limits in zip(points.T, (artist.axes.get_xlim(), artist.axes.get_ylim())):
            assert ((limits[0] <= values) & (values <= limits[1])).all(), name
    for part in {"first", "second"} & canvas.still.keys():
        values, (_, high) = canvas.still[part].get_ydata(), canvas.still[part].axes.get_ylim()
        assert (values[np.isfinite(values)] <= high).all()


def _sweep(shell, drawn):
    """Every control at both ends: a picture, no trouble, and axes that hold what is drawn."""
    for name, control in shell.controls.items():
        ends = control.options if hasattr(control, "options") else (control.min, control.max)
        before = control.value
        for value in (ends[0], ends[-1], before):
            control.value = value
            assert shell.trouble.value == "", (name, value, shell.trouble.value)
            assert bytes(shell.picture.value).startswith(b"\x89PNG")
            _hold(drawn[-1])


def _make(kind, data, model, box):
    if kind == "time_machine":
        return widgets.time_machine(model, {1: model.state_dict()}, data.teacher, box)
    return (widgets.microscope(model, data, H_cycles=4) if kind == "microscope"
            else widgets.dataset_browser(data))


@pytest.mark.parametrize("kind", ["microscope", "time_machine", "dataset_browser"])
def test_every_control_works_to_its_ends_and_the_axes_hold_the_runs(case, kind, drawn):
    data, model, box = case
    shell = _make(kind, data, model, box)
    assert shell.trouble.value == ""
    _sweep(shell, drawn)
    if kind != "dataset_browser":
        names = [slider.description for slider in shell.controls.values()
                 if isinstance(slider, ipywidgets.FloatSlider)]
        labels = data.system.state_labels
        assert names == [f"{at} {label}" for at in ("start", "target") for label in labels]


def test_each_input_is_drawn_by_itself_over_the_right_seconds(case, drawn):
    data, _, _ = case
    shell, system = widgets.dataset_browser(data), data.system
    shell.set(order="as stored", place=3)
    m, horizon = system.control_dim, data.horizon
    for i in range(m):
        step, axes = drawn[-1].moving["optimum", i], drawn[-1].figure.axes[i]
        assert step.axes is axes and axes.get_ylabel() == system.control_labels[i]
        np.testing.assert_allclose(step.get_data().values, data.controls[3, :, i])
        np.testing.assert_allclose(step.get_data().edges, system.dt * np.arange(horizon + 1))
    states = system.rollout(data.initial_states[3], data.controls[3])
    over_time = drawn[-1].moving["optimum", m]
    np.testing.assert_allclose(over_time.get_ydata(), states[:, 0])
    np.testing.assert_allclose(over_time.get_xdata(), system.dt * np.arange(horizon + 1))
    if system.state_dim > 1:
        plane = drawn[-1].moving["optimum", m + 1]
        np.testing.assert_allclose(plane.get_xydata(), states[:, :2])
    assert len(drawn[-1].figure.axes) == m + (1 if system.state_dim == 1 else 3)


def test_the_microscope_shows_every_input_of_network_and_teacher(case, drawn):
    data, model, _ = case
    shell = widgets.microscope(model, data, H_cycles=2)
    number = next(each for each in shell.children[0].children
                  if getattr(each, "description", "") == "sample")
    number.value = 5
    shell.controls["cycle"].value = 2
    with torch.no_grad():
        controls = model(data.initial_states[5:6], data.target_states[5:6], 2)["controls"][0]
    for i in range(data.system.control_dim):
        for what, expected in (("controls", controls), ("optimum", data.controls[5])):
            values = drawn[-1].moving[what, i].get_data().values
            np.testing.assert_allclose(values, expected[:, i], rtol=1e-4,
                                       atol=1e-6 * float(controls.abs().max()))
    end = data.system.rollout(data.initial_states[5], controls.double())[-1, :2]
    assert drawn[-1].moving["end"].get_ydata() == pytest.approx([end[-1].item()], rel=1e-4)


def test_only_a_cycle_beyond_the_trained_depth_that_is_chosen_widens_the_axes():
    teacher, _ = _scaled_cart(1.0, "m")
    scope = Microscope(_network(teacher), teacher, H_cycles=5)
    seen = dict(scope.compute((-1.0, 0.5, 1.0, 0.0), "as trained"))
    seen["controls"] = seen["controls"].copy()
    seen["controls"][5] = 40.0
    assert scope.view(seen, 5)[0][1] > 40 > scope.view(seen, 4)[0][1]
    assert scope.view(seen, 0) == scope.view(seen, 3)


def test_the_components_of_the_phase_plane_can_be_chosen(drawn):
    teacher, box = CASES["quadrotor"]()
    data = generate_dataset(4, 0, teacher, box)
    model = _network(teacher, data)
    for shell in (widgets.microscope(model, data, 2, shown=(4, 2)),
                  widgets.dataset_browser(data, shown=(4, 2)),
                  widgets.time_machine(model, {1: model.state_dict()}, teacher, box, (4, 2))):
        assert shell.trouble.value == ""
        labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in drawn[-1].figure.axes]
        assert ("vz (m/s)", "tilt (rad)") in labels
    drawn.clear()
    widgets.dataset_browser(data, shown=(4, 2)).set(order="as stored", place=1)
    states = data.system.rollout(data.initial_states[1], data.controls[1])
    over_time, plane = (drawn[-1].moving["optimum", i] for i in (2, 3))
    np.testing.assert_allclose(over_time.get_ydata(), states[:, 4])
    np.testing.assert_allclose(plane.get_xydata(), states[:, [4, 2]])
    np.testing.assert_allclose(drawn[-1].moving["start"].get_xydata(), states[:1, [4, 2]])
    with pytest.raises(ValueError, match=r"shown=.*; give two different components of the"):
        widgets.dataset_browser(data, shown=(0, 6))


def test_the_cart_in_other_units_has_the_same_sliders_and_optimum_in_these(drawn):
    for scale in (1.0, 1e3):
        teacher, box = _scaled_cart(scale, "m")
        data = generate_dataset(12, 0, teacher, box)
        shell = widgets.microscope(_network(teacher, data), data, 2)
        assert shell.trouble.value == ""
        controls, canvas = shell.controls, drawn[-1]
        for name in ("start_0", "target_1"):
            slider = controls[name]
            np.testing.assert_allclose([slider.min, slider.max, slider.step],
                                       scale * np.array([-2.5, 2.5, 0.1]))
        optimum = canvas.moving["optimum", 0].get_data().values / scale
        expected = MinimumEnergyController().solve([0.0, 0.0], [1.0, 0.0])[:, 0]
        np.testing.assert_allclose(optimum, expected)


def test_no_optimum_is_drawn_without_a_teacher(drawn):
    teacher, box = CASES["pendulum"]()
    model = _network(teacher)
    shell = widgets.time_machine(model, {1: model.state_dict()}, state_range=box)
    assert shell.trouble.value == "" and ("optimum", 0) not in drawn[-1].moving
    cart = TinyRecursiveControl.create_two_level_small(block_hidden=16, head_hidden=16)
    widgets.time_machine(cart, {1: cart.state_dict()})
    expected = MinimumEnergyController().solve([0.0, 0.0], [1.0, 0.0])[:, 0]
    np.testing.assert_allclose(drawn[-1].moving["optimum", 0].get_data().values, expected)


@pytest.mark.parametrize("name", ["pendulum", "large", "small"])
def test_the_phase_plane_and_the_error_map_work_in_any_magnitude(name, drawn):
    teacher, box = CASES[name]()
    model = _network(teacher, generate_dataset(12, 0, teacher, box))
    first, second, control = teacher.system.labels
    _sweep(widgets.phase_plane(model, teacher, points=5, H_cycles=2, state_range=box), drawn)
    plane, steps = drawn[-1].figure.axes
    assert (plane.get_xlabel(), plane.get_ylabel()) == (first, second)
    assert steps.get_ylabel() == control
    success = 0.04 * float(np.max(box))
    _sweep(widgets.error_map(model, points=5, state_range=box, success=success), drawn)
    axes, image = drawn[-1].figure.axes[0], drawn[-1].moving["image"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (f"start {first}", f"start {second}")
    assert (image.norm.vmin, image.norm.vmax) == pytest.approx((success / 100, 10 * success))


def test_only_an_oscillator_has_a_limit_cycle():
    def legend(teacher, box):
        plane = PhasePlane(_network(teacher), teacher, 3, 1, box)
        return [text.get_text() for text in plane.canvas.figure.axes[0].get_legend().get_texts()]

    assert "limit cycle" in legend(van_der_pol(horizon=10).teacher, None)
    for name in ("pendulum", "large"):
        assert "limit cycle" not in legend(*CASES[name]())


def test_what_a_widget_cannot_show_is_refused_in_words():
    (pendulum, box), (quadrotor, _) = CASES["pendulum"](), CASES["quadrotor"]()
    model, flyer = _network(pendulum), _network(quadrotor)
    weights = {1: model.state_dict()}
    with pytest.raises(ValueError, match=r"state_range=None is not accepted .*; give the box"):
        widgets.time_machine(model, weights)
    with pytest.raises(ValueError, match=r"state_range=None is not accepted .*; give the box"):
        widgets.error_map(model)
    with pytest.raises(ValueError, match=r"state_range=None is not accepted .*; give the box"):
        widgets.phase_plane(model, pendulum)
    with pytest.raises(ValueError, match=r"state_range=\[1.0, 2.0, 3.0\] is not accepted; give"):
        widgets.time_machine(model, weights, state_range=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="teacher is for another system"):
        widgets.time_machine(model, weights, quadrotor, box)
    with pytest.raises(ValueError, match="teacher has horizon=7; the model needs 20"):
        widgets.time_machine(model, weights, Guess(Pendulum(), 7, 0.0, 1.0), box)
    with pytest.raises(ValueError, match="has 6 states; this picture needs 2"):
        widgets.error_map(flyer)
    with pytest.raises(ValueError, match="has 6 states; this picture needs 2"):
        widgets.phase_plane(flyer, quadrotor)
    two = LinearSystem([[1, 0.1], [0, 1]], [[0.1, 0.0], [0.0, 0.1]], 0.1)
    steered = MinimumEnergyController(two, 5)
    with pytest.raises(ValueError, match="has 2 controls; this picture needs 1"):
        widgets.phase_plane(_network(steered), steered, state_range=1.0)
    with pytest.raises(ValueError, match="points=2 is too small; needs at least 3"):
        widgets.error_map(model, points=2, state_range=box)
    with pytest.raises(ValueError, match="dataset"):
        widgets.microscope(model, generate_dataset(4))


# ---------------------------------------------------------------- axes


def test_an_axis_holds_the_values_with_little_room_to_spare():
    generator = np.random.default_rng(0)
    for reach in 10 ** generator.uniform(-8, 8, 200):
        values = reach * generator.uniform(-1, 1, 20)
        low, high = axis_range(values)
        assert low < values.min() and values.max() < high
        assert high == -low and high < 3.7 * abs(values).max()
        np.testing.assert_allclose(axis_range(1000 * values), [1000 * low, 1000 * high])


def test_few_axes_are_in_use():
    ranges = {axis_range([value]) for value in np.linspace(0.05, 5, 1000)}
    assert len(ranges) == 5  # 0.06, 0.2, 0.6, 2, 6


def test_an_axis_ends_at_the_limits_where_all_values_are_within():
    assert axis_range([1.0, 9.0], low=0.0, high=10.0) == pytest.approx((-0.4, 10.4))
    assert axis_range([1.0, 9.0], low=0.0) == pytest.approx((-0.8, 20.8))
    assert axis_range([-1.0, 9.0], low=0.0)[0] < -9  # a teacher that ignores the limit


def test_an_axis_leaves_out_what_is_not_finite():
    assert axis_range([np.nan, 0.5, np.inf]) == axis_range([0.5])
    assert axis_range([np.nan]) == axis_range([1.0]) == axis_range([])


def test_states_far_from_zero_are_shown_around_the_middle_of_their_box():
    low, high = torch.tensor([290.0, -1.0, 0.1]), torch.tensor([300.0, 2.0, 5.0])
    np.testing.assert_array_equal(centre_of(low.double(), high.double()), [295, 0, 0])
    assert axis_range([1.0], least=3.0) == axis_range([3.0])
    assert axis_range([291.0, 299.0], 295.0) == pytest.approx((289 - 0.48, 301 + 0.48))


def test_the_axis_of_what_is_off_holds_its_largest_value():
    assert decades(np.array([1e-3, np.nan]), np.array([50.0])) == (1e-9, 1e2)
    for size in (1e-14, 1e-6, 3e4, 1e12):
        low, high = decades(np.array([size]))
        assert low < size <= high <= 1000 * size * 1.001
