"""Pictures of landings show the flights that they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from trc_lib.course import descents, plots
from trc_lib.systems.lander import Craft, Lander

SYSTEM = Lander(Craft(glide_slope=4.0))
START = torch.tensor([900.0, 0, 800, -10, 20, -40, 1900], dtype=torch.float64)
PLAN = SYSTEM.within(torch.tensor([[-3000.0, -1000, 9000, 1.5]] * 12, dtype=torch.float64))


def test_a_path_is_that_of_the_simulation_and_arrows_are_thrusts():
    path, arrows = descents.path_and_arrows(SYSTEM, START, PLAN, height=1000.0)
    states = SYSTEM.rollout(START, PLAN).numpy()
    np.testing.assert_allclose(path, states[:, :3] / 1e3)
    begin, end, gap = arrows.reshape(descents.ARROWS, 3, 3).swapaxes(0, 1)
    assert np.isnan(gap).all()
    pushes = (end - begin) / (descents.LONGEST * 1.0) * SYSTEM.craft.most_thrust
    np.testing.assert_allclose(pushes, np.tile(PLAN[0, :3], (descents.ARROWS, 1)), rtol=1e-9)


def test_levels_are_lengths_and_edges_end_with_the_flight():
    size, edges = descents.thrust_levels(PLAN)
    np.testing.assert_allclose(size, np.linalg.norm(PLAN[:, :3], axis=1) / 1e3)
    assert edges[0] == 0 and edges[-1] == pytest.approx(18)


@pytest.mark.parametrize("craft", [SYSTEM.craft, Craft()])
def test_a_scene_has_a_slope_only_if_the_craft_has_one(craft):
    figure, left, right = descents.panels(plt.figure())
    descents.set_scene(left, craft, 1000, 900)
    descents.set_thrust(right, craft, 20)
    assert len(left.collections) == (craft.glide_slope is not None)
    assert left.get_zlim()[1] >= 0.9 and right.get_xlim() == (0, 20)
    assert [line.get_ydata()[0] for line in right.lines] == pytest.approx(
        [craft.most_thrust / 1e3, craft.least_thrust / 1e3])
    plt.close(figure)


def test_the_middle_of_the_chord_is_in_the_hole_of_the_ring_and_inside_the_cone():
    figure = descents.relaxation(SYSTEM.craft)
    left, right = figure.axes
    chord, middle = [np.array(line.get_data()) for line in left.lines[-2:]]
    least, most = (limit / 1e3 for limit in (SYSTEM.craft.least_thrust, SYSTEM.craft.most_thrust))
    ends = np.linalg.norm(chord, axis=0)
    assert (ends > least).all() and (ends < most).all() and np.linalg.norm(middle) < least
    *sides, bound = right.lines[-1].get_data_3d()
    assert np.hypot(*sides) < bound < most


def test_an_animation_ends_with_the_last_landing(tmp_path):
    flights = {"short": (PLAN[:6], {"color": "red"}), "long": (PLAN, plots.OPTIMUM)}
    descents.landing_gif(tmp_path / "landing.gif", SYSTEM, START, flights, frames=3)
    picture = Image.open(tmp_path / "landing.gif")
    assert picture.n_frames == 3
    first = np.asarray(picture.convert("RGB")).astype(int)
    picture.seek(2)
    assert picture.info["duration"] == descents.PAUSE
    assert (abs(np.asarray(picture.convert("RGB")) - first).max(axis=2) > 60).sum() > 200
