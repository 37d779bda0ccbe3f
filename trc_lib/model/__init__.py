"""The recursive controller, its feedbacks and variants, and what it shares with its baselines."""

from trc_lib.model.ablations import LastCycleGradient, NoCarry, OneCall, SingleLatent
from trc_lib.model.config import TRCConfig
from trc_lib.model.feedback import CostGradient, Feedback, FinalError, NoFeedback, Proportional
from trc_lib.model.learner import Learner
from trc_lib.model.recursion import TinyRecursiveControl
from trc_lib.model.trace import Trace

__all__ = ["CostGradient", "Feedback", "FinalError", "LastCycleGradient", "Learner", "NoCarry",
           "NoFeedback", "OneCall", "Proportional", "SingleLatent", "TRCConfig",
           "TinyRecursiveControl", "Trace"]
