"""Who learns: the recursive controller, and what it shares with its rivals."""

from trc_lib.model.config import TRCConfig
from trc_lib.model.learner import Learner
from trc_lib.model.recursion import TinyRecursiveControl, Trace

__all__ = ["Learner", "TRCConfig", "TinyRecursiveControl", "Trace"]
