"""The course: its presets, and the files that its notebooks share.

Both are imported when they are first used, so that the doctor runs where PyTorch is missing.
"""

import importlib

_MODULES = {"parameters": ("check_parameters",),
            "presets": ("PRESETS", "Preset", "choose_preset"),
            "workspace": ("folder", "load_or_make_datasets", "load_or_train", "pretrained",
                          "record", "trained", "training_folder")}


def __getattr__(name):
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
