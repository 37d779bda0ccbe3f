"""Checks of the exercises: each takes the learner's function and returns a `CheckResult`."""
