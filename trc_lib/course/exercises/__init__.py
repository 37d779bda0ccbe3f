"""Checks of the exercises: each takes the learner's function and returns a `Verdict` that says what is wrong."""
