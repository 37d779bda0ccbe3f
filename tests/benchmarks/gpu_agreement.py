"""Part ``agreement`` of `check_gpu`: does the device give what the CPU gives?"""

import contextlib
import functools
import warnings

import torch

from tests.benchmarks.gpu_record import precision, words_of
from trc_lib.course.doctor import diagnose, report
from trc_lib.data import EVAL_SEED, generate_dataset
from trc_lib.evaluation import evaluate
from trc_lib.model import TinyRecursiveControl
from trc_lib.problems import PROBLEMS
from trc_lib.teachers import IterativeLQR
from trc_lib.training import TrainConfig, train


def agreement(device, sizes, record):
    """The doctor, then teachers, network and training beside those of the CPU."""
    checks = diagnose()
    report(checks)
    # A bare node lacks the packages of the notebooks, which nothing here needs.
    record["the doctor misses"] = {name: found for name, passed, found, _ in checks
                                   if passed is False}
    for name, passed, found, _ in checks:
        if name == "device" and not passed:
            record.fail(f"device: {found}")
    for name, compare in {
            **{f"teacher, {each}": functools.partial(teacher, device, each, sizes.compared)
               for each in PROBLEMS if each != "powered_descent"},  # solved on the CPU alone
            "network": lambda: network(device), "training": lambda: trained(device, sizes.small),
            "waits": lambda: waits(device)}.items():
        try:
            found = compare()
        except Exception as error:  # the others may work
            record.fail(f"{name}: {words_of(error)}")
            continue
        for what, value in found.items():
            record.judge(what, value)


def teacher(device, name, num_problems):
    """How far the device's answers are from the CPU's."""
    problem = PROBLEMS[name]()
    nonlinear = isinstance(problem.teacher, IterativeLQR)
    few = max(1, num_problems // 100) if nonlinear else num_problems
    data = problem.dataset(few)
    states = data.initial_states, data.target_states
    controls, solved = problem.teacher.try_solve(*(state.to(device) for state in states))
    controls = controls.cpu()
    if nonlinear:
        kind = "largest relative difference of a cost"
        costs = [problem.teacher.cost(*states, answer) for answer in (controls, data.controls)]
        differences = (costs[0] / costs[1] - 1)[solved.cpu()].abs()
    else:
        kind = "largest difference of a control"
        differences = (controls - data.controls).abs()
    return {f"teacher, {name}: {kind}": float(differences.max())}


def network(device):
    """The medium network's answers and a roll-out, in float32."""
    data, model = generate_dataset(4096), TinyRecursiveControl.create_two_level_medium()
    model.set_scaling(data)
    states = data.initial_states.float(), data.target_states.float()
    controls, there = data.controls.float(), [state.to(device) for state in states]
    with torch.no_grad():
        here = model(*states)["cycle_controls"]
        answers = model.to(device)(*there)["cycle_controls"].cpu()
        with precision("high"):
            rolled = model.system.rollout_unchecked(there[0], controls.to(device)).cpu()
    wanted = model.system.rollout_unchecked(states[0].double(), controls.double())
    return {"network, float32: largest difference of a control, over the largest control":
            float((answers - here).abs().max() / here.abs().max()),
            "roll-out, TF32 allowed: largest difference of a state, over the largest state":
            float((rolled - wanted).abs().max() / wanted.abs().max())}


def trained(device, lane):
    """The same small training on both."""
    losses, errors = [], []
    sets = generate_dataset(lane.num_train), generate_dataset(lane.num_eval, EVAL_SEED)
    for place in ("cpu", device):
        model = lane.make_model()
        history = train(model, *sets, lane.training, device=place, progress=False)
        losses.append(history.rows[0]["train_loss"])
        errors.append(evaluate(model.cpu(), sets[1])[-1].final_error_mean)
    return {"smoke lane: mean final error, ratio (the larger over the smaller)":
            max(errors) / min(errors),
            "smoke lane: first epoch's train loss, relative difference":
            abs(losses[1] / losses[0] - 1)}


def waits(device, batch_size=64):
    """How much more often the loop waits for the device when an epoch has eight steps more."""
    counts = []
    for steps in (8, 16):
        data = generate_dataset(steps * batch_size)
        with warnings.catch_warnings(record=True) as caught, waiting_warns(device):
            warnings.simplefilter("always")
            train(TinyRecursiveControl.create_two_level_small(), data,
                  generate_dataset(64, EVAL_SEED),
                  TrainConfig(epochs=1, batch_size=batch_size, cycle_weight=0.1), device=device,
                  progress=False)
        counts.append(sum("synchroniz" in str(warning.message) for warning in caught))
    return {"waits for the device in 8 more steps of training": counts[1] - counts[0]}


@contextlib.contextmanager
def waiting_warns(device):
    """PyTorch warns of whatever waits for the GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.set_sync_debug_mode("warn")
    try:
        yield
    finally:
        if torch.device(device).type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
