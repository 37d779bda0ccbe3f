"""Settings that make no sense are refused by name; the learning rate rises and falls."""

import numpy as np
import pytest

from trc_lib.training import TrainConfig, learning_rate


def test_learning_rate_warms_up_then_falls_to_zero():
    config = TrainConfig(lr=0.01, warmup=0.2)
    rates = np.array([learning_rate(step, 100, config) for step in range(101)])
    np.testing.assert_allclose(rates[:20], 0.01 * np.arange(1, 21) / 20)  # a straight line
    assert rates.max() == 0.01 and (np.diff(rates[20:]) < 0).all()
    assert rates[60] == pytest.approx(0.005) and rates[100] == pytest.approx(0, abs=1e-12)
    assert rates[99] < 1e-5  # the last step that is taken


def test_learning_rate_needs_no_warm_up():
    rates = [learning_rate(step, 10, TrainConfig(lr=0.5, warmup=0)) for step in range(10)]
    assert max(rates) == 0.5 and all(0 < rate <= 0.5 for rate in rates)


@pytest.mark.parametrize(("change", "error"), [
    ({"epochs": 0}, ValueError), ({"batch_size": 1.5}, TypeError), ({"patience": 0}, ValueError),
    ({"seed": -1}, ValueError), ({"lr": -1e-3}, ValueError), ({"lr": "fast"}, TypeError),
    ({"weight_decay": float("nan")}, ValueError), ({"clip_norm": 0}, ValueError),
    ({"warmup": 1.0}, ValueError), ({"cycle_weight": -0.1}, ValueError),
    ({"snapshot_epochs": (-1,)}, ValueError), ({"snapshot_epochs": 3}, TypeError),
], ids=str)
def test_settings_that_make_no_sense_are_refused_by_name(change, error):
    with pytest.raises(error, match=f"^{next(iter(change))}="):
        TrainConfig(**change)


@pytest.mark.parametrize("objective", ["cost", "root cost"])
def test_a_final_weight_beside_the_cost_is_refused(objective):
    with pytest.raises(
            ValueError, match=rf"final_weight=0\.3 is not accepted with objective='{objective}'"):
        TrainConfig(objective=objective, final_weight=0.3)


def test_a_part_that_does_not_exist_or_runs_no_cycles_is_refused():
    with pytest.raises(ValueError,
                       match="part='legs' is unknown; accepted are 'all', 'proposal', 'cycles'"):
        TrainConfig(part="legs")
    with pytest.raises(ValueError, match="most_cycles=3 is not accepted with part='proposal'"):
        TrainConfig(part="proposal", most_cycles=3)


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError,
                       match="objective='huber' is unknown; accepted are 'mse', 'rms'"):
        TrainConfig(objective="huber")


def test_the_steps_of_the_warm_up_are_rounded_and_not_cut():
    config = TrainConfig(lr=1.0, warmup=0.29)  # 0.29 * 100 is 28.999... in floating point
    assert learning_rate(27, 100, config) == pytest.approx(28 / 29)
    assert learning_rate(28, 100, config) == 1.0 == learning_rate(29, 100, config)
