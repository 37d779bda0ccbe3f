"""The course as a whole: its lanes, what its notebooks share on disk, and the batch runner over them."""

from trc_lib.course.presets import LANES, Lane, choose_lane
from trc_lib.course.workspace import folder, load_or_make_datasets, load_or_train, pretrained, record, trained

__all__ = ["LANES", "Lane", "choose_lane", "folder", "load_or_make_datasets", "load_or_train", "pretrained", "record",
           "trained"]
