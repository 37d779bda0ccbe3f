"""How the arithmetic of a training runs: threads, bfloat16 and TF32."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch

from trc_lib.model import Learner
from trc_lib.model.recursion import SwiGLU
from trc_lib.training.config import TrainConfig


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run the block in one PyTorch thread.

    Small operations gain nothing from a second one, and lose much if another process needs a core.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def precision_of(model: Learner, config: TrainConfig, device: torch.device) -> Callable:
    """A function that returns the context in which ``model`` is trained on ``device``.

    With ``mixed_precision`` the layers of a network's block run in bfloat16, and on a GPU its other
    layers in TF32; latents, controls and roll-outs stay in float32. TF32 is off for cost
    objectives: its error exceeds the cost gap.
    """
    if not config.mixed_precision:
        return contextlib.nullcontext
    tf32 = device.type == "cuda" and not config.of_cost
    layers = [layer for layer in model.modules() if isinstance(layer, SwiGLU)]
    # made once, so that torch.compile compiles once
    forwards = [functools.partial(_in_bfloat16, layer) for layer in layers]

    @contextlib.contextmanager
    def precision():
        before = torch.get_float32_matmul_precision()
        if tf32:
            torch.set_float32_matmul_precision("high")
        for layer, forward in zip(layers, forwards):
            layer.forward = forward
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
            for layer in layers:
                del layer.forward

    return precision


def _in_bfloat16(layer, x):
    with torch.autocast(x.device.type, torch.bfloat16):
        return SwiGLU.forward(layer, x)
