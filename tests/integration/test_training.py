"""Trainings that take seconds: what is learnt, fine-tuning of a cost, and compiled networks."""

import functools
import os
import shutil

import pytest
import torch

from trc_lib import training
from trc_lib.data import generate_dataset
from trc_lib.evaluation import evaluate
from trc_lib.model.baselines import MLP, MLPConfig
from trc_lib.problems import PROBLEMS
from trc_lib.training import TrainConfig

train = functools.partial(training.train, device="cpu", progress=False)


def test_a_tiny_model_learns(tiny):
    data = generate_dataset(256, seed=3)
    history = train(tiny(), data, data, TrainConfig(epochs=30, batch_size=32, lr=3e-3))
    assert min(history["train_loss"]) < history["train_loss"][0] / 10
    assert history.best["eval_loss"] < history["eval_loss"][0] / 10
    assert history.best["eval_final_error"] < history["eval_final_error"][0] / 10
    assert history.best["eval_success"] > 0.2 > history["eval_success"][0]


def test_fine_tuning_lowers_the_true_cost_where_imitation_stopped():
    problem = PROBLEMS["van_der_pol"](horizon=40)
    train_set, eval_set = problem.dataset(128, seed=0), problem.dataset(64, seed=1)
    model = MLP(MLPConfig(horizon=40, width=64), problem.teacher.system)
    train(model, train_set, eval_set, TrainConfig(epochs=30, batch_size=32, lr=2e-3))
    before = evaluate(model, eval_set)[-1].cost_ratio
    config = TrainConfig(epochs=10, batch_size=32, lr=3e-4, objective="cost")
    history = train(model, train_set, eval_set, config)
    after = evaluate(model, eval_set)[-1].cost_ratio
    assert 1 < after < 1 + 0.7 * (before - 1)
    assert history.best["eval_loss"] == pytest.approx(after - 1, rel=1e-3)


needs_patience = pytest.mark.skipif("TRC_SLOW_TESTS" not in os.environ,
                                    reason="takes a minute; set TRC_SLOW_TESTS=1 to run it")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None,
                                    reason="torch.compile needs a C++ compiler; there is no g++")


@pytest.mark.parametrize("backend", [
    "aot_eager", pytest.param("inductor", marks=[needs_patience, needs_compiler])])
def test_a_compiled_network_has_the_same_loss(tiny, dataset, tmp_path, monkeypatch, backend):
    """``aot_eager`` captures the network like the default, but needs no C++ compiler."""
    compiled = []

    def compile_with_backend(function, compile=torch.compile):
        compiled.append(function)
        return compile(function, backend=backend)
    monkeypatch.setattr(torch, "compile", compile_with_backend)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    small = functools.partial(tiny, H_cycles=2, L_cycles=1, block_layers=1)
    config = {"epochs": 1, "batch_size": 64}
    model = small()
    fast = train(model, dataset, dataset, TrainConfig(**config, compile=True)).rows[0]
    assert compiled == [model.predict]
    plain = train(small(), dataset, dataset, TrainConfig(**config)).rows[0]
    assert fast["train_loss"] == pytest.approx(plain["train_loss"], rel=1e-5)
    # after a step, so the gradient agrees as well
    assert fast["eval_loss"] == pytest.approx(plain["eval_loss"], rel=1e-3)
    torch.compiler.reset()
