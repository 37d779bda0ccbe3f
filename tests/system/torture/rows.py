"""One row of the table: what was tried, how often, and how often it was survived."""

import collections
import dataclasses


@dataclasses.dataclass
class Row:
    """Counts trials as they come.

    Attributes:
        subject: ``"kills"``, ``"corruption"``, ...
        name: what was tried.
        tries, survived: how many.
        outcomes: how each that was survived ended, ``{word: number}``.
        failures: a short reason for each that was not.
        not_tried: why, where nothing could be tried here.
    """

    subject: str
    name: str
    tries: int = 0
    survived: int = 0
    outcomes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    failures: list = dataclasses.field(default_factory=list)
    not_tried: str = ""

    def add(self, outcome, failure=None):
        """Count one trial: survived, with the word for how, or failed, with the reason."""
        self.tries += 1
        if failure is None:
            self.survived += 1
            self.outcomes[outcome] += 1
        else:
            self.failures.append(failure)

    def contents(self):
        """For the results file."""
        kept = {"subject": self.subject, "name": self.name, "tries": self.tries, "survived": self.survived}
        if self.not_tried:
            return kept | {"not tried": self.not_tried}
        return kept | {"outcomes": dict(sorted(self.outcomes.items())), "failures": self.failures[:20]}
