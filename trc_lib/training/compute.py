"""How the arithmetic of a training runs: threads, bfloat16 and TF32."""

import contextlib
import functools

import torch

from trc_lib.model.recursion import SwiGLU


@contextlib.contextmanager
def one_thread():
    """One PyTorch thread: small work gains nothing from a second core, and threads that wait for each other
    slow it down many times on a machine that is also doing something else."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def precision_of(model, config, device):
    """The context in which a `TrainConfig` trains ``model`` on ``device``; what is reported is measured outside it."""
    if not config.mixed_precision:
        return contextlib.nullcontext()
    return MixedPrecision(model, tf32=device.type == "cuda" and not config.of_cost)


class MixedPrecision:
    """A context in which the layers of a network's block run in bfloat16, and on a GPU its other layers in TF32.

    Latents, controls and roll-outs stay in float32. It can be entered any number of times.

    Args:
        model: a `Learner`.
        tf32: allow TF32 as well. With a cost as the objective it is off: its error exceeds the cost gap.
    """

    def __init__(self, model, tf32):
        self.tf32 = tf32
        self.forwards = {layer: functools.partial(_in_bfloat16, layer)  # made once, so that torch.compile compiles once
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
