"""The files that the notebooks share: datasets, checkpoints and figures, loaded or made."""

import os
import pathlib

from trc_lib import io
from trc_lib.course.places import root, shipped, shown
from trc_lib.data import EVAL_SEED, LQRDataset, generate_dataset
from trc_lib.model import TinyRecursiveControl
from trc_lib.training import OtherRecipe, epochs_kept, load_snapshots, train

RUN_FOLDER = "TRC_RUN_FOLDER"  # environment variable: the folder of a batch run


def folder(preset):
    """The folder of a preset's datasets, ``data/<name>/seed-<seed>``."""
    return root() / "data" / preset.name / f"seed-{preset.seed}"


def runs_folder(lane, seed):
    """The folder in which the course is run, ``runs/<lane>`` or ``runs/<lane>-seed-<seed>``."""
    return root() / "runs" / (lane if seed == 0 else f"{lane}-seed-{seed}")


def run_folder(preset):
    """The folder for what a notebook trains and records.

    That of the batch run; by hand the one that a run of the whole course has, so that what is
    trained in either is found by the other. With changes to the preset, a folder in it.
    """
    if RUN_FOLDER in os.environ:
        return pathlib.Path(os.environ[RUN_FOLDER])
    return runs_folder(preset.name, preset.seed) / ",".join(preset.changes)


def training_folder(preset):
    """The folder for what a notebook trains: chapter 4's network, and others in folders in it."""
    return run_folder(preset) / "training"


def load_or_make_datasets(preset, say=print):
    """The training and the eval set, ``lqr_dataset.npz`` and ``lqr_dataset_eval.npz``.

    A file that is missing, or was made by another recipe, is made; a damaged one is refused.

    Args:
        say: is called with a line on each.
    """
    def load_or_make(name, num_samples, seed):
        path = folder(preset) / name
        recipe = f"{shown(path)}: {num_samples:,} problems, seed {seed}"
        if path.exists():
            dataset = LQRDataset.load(path)
            if (len(dataset), dataset.seed) == (num_samples, seed):
                say(f"loaded {recipe}")
                return dataset
        dataset = generate_dataset(num_samples, seed)
        dataset.save(path)
        say(f"made {recipe}")
        return dataset

    return (load_or_make("lqr_dataset.npz", preset.num_train, preset.seed),
            load_or_make("lqr_dataset_eval.npz", preset.num_eval, preset.seed + EVAL_SEED))


def load_or_train(preset, train_set, eval_set, retrain=False, progress=True, on_epoch=None,
                  say=print):
    """The trained network, its history and its snapshots: loaded if that run is finished.

    A run that was stopped goes on where it was.

    Args:
        retrain: train again, even if the run is finished.
        progress, on_epoch: as in `train`.
        say: is called with a line on what was done.

    Returns:
        model (on the CPU), `History` and ``{epoch: weights}``.
    """
    where, model = training_folder(preset), preset.make_model()
    options = {"folder": where, "progress": progress, "on_epoch": on_epoch}
    before = 0 if retrain else epochs_kept(where)
    try:
        history = train(model, train_set, eval_set, preset.training, resume=not retrain, **options)
    except OtherRecipe:
        say(f"{shown(where)} holds a run with another recipe: training anew")
        before = 0
        history = train(model, train_set, eval_set, preset.training, resume=False, **options)
    path = shown(where / "best_model.pt")
    if before == len(history):
        say(f"loaded {path}: trained before, {before} epochs")
    else:
        part = f", the first {before} of them before" if before else ""
        say(f"made {path}: {len(history)} epochs{part}")
    return model.cpu().eval(), history, load_snapshots(where / "snapshots.pt")


def trained(preset, train_set, eval_set, say=print):
    """The network that chapter 4 trained, trained now if it is missing.

    In a batch run that is the network in its folder, with whatever changes it was trained.
    """
    path = training_folder(preset) / "best_model.pt"
    if RUN_FOLDER in os.environ and path.exists():
        say(f"loaded {shown(path)}")
        return TinyRecursiveControl.load(path)
    return load_or_train(preset, train_set, eval_set, say=say)[0]


def pretrained(name="two_level_medium", network=TinyRecursiveControl):
    """A network that the course ships, data/pretrained/<name>.pt, of the class ``network``.

    ``two_level_medium`` is chapter 4's, ``two_level_medium_long`` the best one. The small networks
    of chapters 6 to 9 and 12, of seed 0, are ``laboratory/<variant>``,
    ``laboratory/bounded_<variant>``, ``laboratory/van_der_pol_<variant>`` and
    ``laboratory/powered_descent_<variant>``.
    """
    return network.load(shipped(f"data/pretrained/{name}.pt"))


def record(preset, chapter, figures):
    """Write a chapter's figures, plain numbers by name, to ``results/<chapter>.json``."""
    io.write_json(run_folder(preset) / "results" / f"{chapter}.json", figures)
