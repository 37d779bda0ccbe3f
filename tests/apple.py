"""An Apple GPU as far as this library can notice one: a device "mps" that has no float64."""

import contextlib

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

REFUSED = ("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support "
           "float64. Please use float32 instead.")
MPS = torch.device("mps")
ACROSS = (torch.Tensor.copy_, torch._has_compatible_shallow_copy_type)  # devices
GET_DEVICE = torch.Tensor.device.__get__


class OnApple(torch.Tensor):
    """A tensor that says that it lies on the device."""


@contextlib.contextmanager
def apple():
    """Within the block tensors and modules can be moved to "mps", and behave as if they were there.

    There is no float64, NumPy cannot read them, and no tensor of the CPU can be computed with.
    """
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # so that parameters change class
    try:
        with _Mode():
            yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


class _Mode(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.device, torch._C._nn._parse_to):
            return func(*args, **kwargs)
        given = tree_flatten((args, kwargs))[0]
        tensors = [each for each in given if isinstance(each, torch.Tensor)]
        there = [each for each in tensors if isinstance(each, OnApple)]
        places = [str(each) for each in given if isinstance(each, str | torch.device)]
        to_cpu, to_mps = func is torch.Tensor.cpu or "cpu" in places, "mps" in places
        if func == GET_DEVICE and there:
            return MPS
        if getattr(func, "__name__", "") in ("__get__", "requires_grad_"):
            return func(*args, **kwargs)
        if func is torch.Tensor.numpy and there:
            raise TypeError("can't convert mps:0 device type tensor to numpy.")
        if func is torch.Tensor.to and len(tensors) == 2:  # to that of another tensor
            to_mps, to_cpu = isinstance(tensors[1], OnApple), not isinstance(tensors[1], OnApple)
        elif func not in ACROSS and there and not all(
                isinstance(each, OnApple) or each.ndim == 0 for each in tensors):
            raise RuntimeError("Expected all tensors to be on the same device, but found at least "
                               "two devices, mps:0 and cpu!")
        args, kwargs = tree_map_only(OnApple, lambda x: x.as_subclass(torch.Tensor),
                                     (args, kwargs))
        args, kwargs = tree_map_only((str, torch.device), lambda x: "cpu" if str(x) == "mps"
                                     else x, (args, kwargs))
        result = func(*args, **kwargs)
        if to_cpu or not (there or to_mps):
            return result
        if any(each.dtype == torch.float64 for each in tree_flatten(result)[0]
               if isinstance(each, torch.Tensor)):
            raise TypeError(REFUSED)
        return tree_map_only(torch.Tensor, lambda x: x.as_subclass(OnApple), result)
