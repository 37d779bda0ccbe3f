"""What every teacher has in common."""

LONGEST = 10_000  # horizon of a teacher that goes through it step by step


class Teacher:
    """Somebody who knows the controls of least cost for any start and target.

    A subclass sets ``system`` and ``horizon`` and defines ``try_solve``; unless it minimises the energy, ``cost``; and ``contents``
    if it is made of more than a system and a horizon.

    Attributes:
        system: what is steered.
        horizon: number of steps N.
        success: a problem counts as solved if |x_N - x_T| stays below this.
        has_ruler: whether |u - u*|^2 is miss plus excess_energy, as `evaluation.decompose_error` has it.
    """

    success, has_ruler = 0.1, False
    System = None  # the class of system that a file's contents are made into

    def try_solve(self, initial_state, target_state):
        """The controls where there is an answer, and where that is.

        Args:
            initial_state, target_state: ``[..., state_dim]``, leading dimensions that broadcast.

        Returns:
            controls ``[..., horizon, control_dim]``, float64, NaN where there is none; and ``solved``, booleans ``[...]``.

        Raises:
            TypeError, ValueError: for values that are not finite floats, or shapes that do not fit.
        """
        raise NotImplementedError

    def solve(self, initial_state, target_state):
        """`try_solve`, for problems that all have an answer: the controls alone.

        Raises:
            Unsolved: a ValueError, if any has none.
        """
        controls, solved = self.try_solve(initial_state, target_state)
        if not bool(solved.all()):
            raise Unsolved(solved, self.reason)
        return controls

    reason = "has no answer"  # why `solve` refused a target

    def cost(self, initial_state, target_state, controls):
        """What the teacher makes as small as it can, ``[...]``: here the energy, the sum of |u[k]|^2."""
        return controls.square().sum(dim=(-2, -1))

    def contents(self):
        """What the teacher is made of, for files: plain values and tensors by name."""
        return {**self.system.contents(), "horizon": self.horizon}

    @classmethod
    def from_contents(cls, contents):
        """The teacher that has these `contents`."""
        contents = dict(contents)
        horizon = contents.pop("horizon")
        return cls(cls.System(**contents), horizon)


class Unsolved(ValueError):
    """Some problems have no answer; ``solved`` says which have, a boolean for each problem."""

    def __init__(self, solved, reason):
        self.solved = solved
        super().__init__(f"target_state {reason} for {int((~solved).sum())} of {solved.numel()} problems; "
                         "try_solve(...) tells which")
