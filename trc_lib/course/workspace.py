"""What the notebooks share on disk: datasets, checkpoints and figures; loaded, or made if missing."""

import os
import pathlib

from trc_lib import io
from trc_lib.data import EVAL_SEED, LQRDataset, generate_dataset
from trc_lib.model import TinyRecursiveControl
from trc_lib.training import OtherRecipe, epochs_kept, load_snapshots, train

RUN_FOLDER = "TRC_RUN_FOLDER"  # the environment variable in which the batch runner names the folder of a run


def root():
    """The folder of the course: the first at or above the working folder that holds notebooks/ and trc_lib/.

    Where there is none, the one that this library was installed from; failing that, the working folder.
    """
    here = pathlib.Path.cwd()
    for candidate in (here, *here.parents, pathlib.Path(__file__).resolve().parents[2]):
        if (candidate / "notebooks").is_dir() and (candidate / "trc_lib").is_dir():
            return candidate
    return here


def shown(path):
    """A path as the reader finds it: from the folder of the course on."""
    path = pathlib.Path(path)
    return str(path.relative_to(root())) if path.is_relative_to(root()) else str(path)


def folder(lane):
    """Where a lane's files go: ``data/<lane>/seed-<seed>``."""
    return root() / "data" / lane.name / f"seed-{lane.seed}"


def training_folder(lane):
    """Where its training run goes: ``training/`` in the folder of a batch run; else the lane's folder, or one in it that is
    named after what was changed."""
    if RUN_FOLDER in os.environ:
        return pathlib.Path(os.environ[RUN_FOLDER]) / "training"
    return folder(lane) / ",".join(lane.changes) if lane.changes else folder(lane)


def load_or_make_datasets(lane, say=print):
    """The training and the eval set of a lane, ``lqr_dataset.npz`` and ``lqr_dataset_eval.npz``.

    A file that is missing, or was made by another recipe, is made anew; a damaged one is refused.
    ``say`` is told which it was.
    """
    return tuple(_load_or_make(folder(lane) / name, num_samples, seed, say) for name, num_samples, seed in (
        ("lqr_dataset.npz", lane.num_train, lane.seed),
        ("lqr_dataset_eval.npz", lane.num_eval, lane.seed + EVAL_SEED)))


def _load_or_make(path, num_samples, seed, say):
    if path.exists():
        dataset = LQRDataset.load(path)
        if (len(dataset), dataset.seed) == (num_samples, seed):
            say(f"loaded {shown(path)}: {num_samples:,} problems, seed {seed}")
            return dataset
    dataset = generate_dataset(num_samples, seed)
    dataset.save(path)
    say(f"made {shown(path)}: {num_samples:,} problems, seed {seed}")
    return dataset


def load_or_train(lane, train_set, eval_set, retrain=False, progress=True, on_epoch=None, say=print):
    """The lane's trained network, its history and its snapshots: loaded if that very run is finished, else trained.

    A run that was stopped goes on where it was. ``say`` is told which it was.

    Returns:
        model (on the CPU), `History` and ``{epoch: weights}``.
    """
    where, model = training_folder(lane), lane.make_model()
    options = {"folder": where, "progress": progress, "on_epoch": on_epoch}
    before = 0 if retrain else epochs_kept(where)
    try:
        history = train(model, train_set, eval_set, lane.training, resume=not retrain, **options)
    except OtherRecipe:
        say(f"{shown(where)} holds a run with another recipe: training anew")
        before = 0
        history = train(model, train_set, eval_set, lane.training, resume=False, **options)
    path = shown(where / "best_model.pt")
    if before == len(history):
        say(f"loaded {path}: trained before, {len(history)} epochs")
    else:
        say(f"made {path}: {len(history)} epochs" + (f", the first {before} of them before" if before else ""))
    return model.cpu().eval(), history, load_snapshots(where / "snapshots.pt")


def trained(lane, train_set, eval_set, say=print):
    """The network that chapter 4 trained: in a batch run that of its folder, whatever it was told to change; else the lane's,
    trained now if it is not there."""
    path = training_folder(lane) / "best_model.pt"
    if RUN_FOLDER in os.environ and path.exists():
        say(f"loaded {shown(path)}")
        return TinyRecursiveControl.load(path)
    return load_or_train(lane, train_set, eval_set, say=say)[0]


def pretrained(name="two_level_medium", network=TinyRecursiveControl):
    """A network that the course ships, data/pretrained/<name>.pt, of the class ``network``.

    ``two_level_medium`` is chapter 4's, ``two_level_medium_long`` the best there is, and ``laboratory/<rival>`` and
    ``laboratory/bounded_<rival>`` small networks of chapters 6 and 7, trained by ``make sweep`` with seed 0.
    """
    return network.load(root() / "data" / "pretrained" / f"{name}.pt")


def record(lane, chapter, figures):
    """Keep a chapter's figures (plain numbers by name): ``results/<chapter>.json``, in the batch run's folder or the lane's."""
    where = pathlib.Path(os.environ[RUN_FOLDER]) if RUN_FOLDER in os.environ else training_folder(lane)
    io.write_json(where / "results" / f"{chapter}.json", figures)
