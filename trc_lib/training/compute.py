"""How the arithmetic of a training runs: threads, bfloat16 and TF32."""

import contextlib
import functools
from collections.abc import Iterator

import torch

from trc_lib.model import Learner
from trc_lib.model.recursion import SwiGLU
from trc_lib.training.config import TrainConfig


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One PyTorch thread.

    Small work gains nothing from a second core, and threads that wait for each other slow it down
    many times on a machine that is also doing something else.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def precision_of(model: Learner, config: TrainConfig,
                 device: torch.device) -> contextlib.AbstractContextManager:
    """The context in which a training computes its gradients; it can be entered repeatedly."""
    if not config.mixed_precision:
        return contextlib.nullcontext()
    # With a cost objective TF32 is off: its error exceeds the cost gap.
    return MixedPrecision(model, tf32=device.type == "cuda" and not config.of_cost)


class MixedPrecision(contextlib.AbstractContextManager):
    """The layers of a network's block in bfloat16, and on a GPU its other layers in TF32.

    Latents, controls and roll-outs stay in float32.
    """

    def __init__(self, model: Learner, tf32: bool):
        self.tf32 = tf32
        self.forwards = {layer: functools.partial(_in_bfloat16, layer)  # once: compiled once
                         for layer in model.modules() if isinstance(layer, SwiGLU)}

    def __enter__(self):
        self.precision = torch.get_float32_matmul_precision()
        if self.tf32:
            torch.set_float32_matmul_precision("high")
        for layer, forward in self.forwards.items():
            layer.forward = forward

    def __exit__(self, *_):
        torch.set_float32_matmul_precision(self.precision)
        for layer in self.forwards:
            del layer.forward


def _in_bfloat16(layer, x):
    with torch.autocast(x.device.type, torch.bfloat16):
        return SwiGLU.forward(layer, x)
