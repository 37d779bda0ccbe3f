"""The library under the Tiny Recursive Control course; its floors, from the ground up:
systems, teachers, datasets, model, training, evaluation (with baselines), plots, widgets, course."""

__version__ = "0.2.0"
