"""The course as a whole: its lanes, what its notebooks share on disk, and the batch runner over them."""

from trc_lib.course.presets import PRESETS, Preset, choose_preset
from trc_lib.course.workspace import folder, load_or_make_datasets, load_or_train, pretrained, record, trained

__all__ = ["PRESETS", "Preset", "choose_preset", "folder", "load_or_make_datasets", "load_or_train", "pretrained", "record",
           "trained"]
