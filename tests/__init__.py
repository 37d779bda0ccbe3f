"""The tests; see CONTRIBUTING.md for the three tiers."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
