"""The checkpoints that are shipped: what they are, and what they reach."""

import hashlib
import json

import pytest

from tests import ROOT
from trc_lib import course
from trc_lib.data import EVAL_SEED, generate_dataset
from trc_lib.evaluation import evaluate
from trc_lib.model import TinyRecursiveControl


@pytest.mark.parametrize("name", ["two_level_medium", "two_level_medium_long"])
def test_a_checkpoint_is_the_one_in_its_card(name):
    path = ROOT / "data" / "pretrained" / f"{name}.pt"
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["recipe"] == TinyRecursiveControl.load(path).recipe
    assert path.stat().st_size < 2.5e6


def test_chapter_4s_network_reaches_the_headline():
    preset, model = course.PRESETS["cpu"], course.pretrained()
    final = evaluate(model, generate_dataset(preset.num_eval, preset.seed + EVAL_SEED))[-1]
    assert abs(model.num_parameters / 600_000 - 1) < 0.1
    assert final.final_error_mean <= 0.010 and final.success_rate == 1
    assert final.control_mse <= 4.9e-5


def test_the_best_network_arrives_to_a_thousandth_of_a_millimetre():
    problems = generate_dataset(5_000, seed=7_000_000)
    cycles = evaluate(course.pretrained("two_level_medium_long"), problems)
    means = [metrics.final_error_mean for metrics in cycles]
    assert len(means) == 4 and means == sorted(means, reverse=True)
    assert means[-1] < 3e-6
    assert cycles[-1].final_error_max < 1e-3 and cycles[-1].success_rate == 1
