"""A trained network as an ONNX file, for runtimes without PyTorch."""

import contextlib
import copy
import logging
import warnings

import torch

from trc_lib import io, validation
from trc_lib.model import Learner

TOLERANCE = 1e-5  # of the file's controls, relative to their scale
ROUNDING = 4      # times that of the network itself in float32, if it is larger


class Controls(torch.nn.Module):
    """(initial_state, target_state) -> controls, float32 and in physical units."""

    def __init__(self, model, H_cycles):
        super().__init__()
        self.model, self.H_cycles = model, H_cycles

    def forward(self, initial_state, target_state):
        return self.model.predict(initial_state, target_state, self.H_cycles)["controls"]


@contextlib.contextmanager
def _quiet():
    """Suppress the warnings and the log of the exporter, which concern its internals."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def export_onnx(model: object, path: object, H_cycles: object = None) -> float:
    """Write ``model`` to ``path`` as ONNX, only if ONNX Runtime gives the same controls.

    The file takes ``initial_state`` and ``target_state``, ``[batch, state_dim]`` float32, any
    batch, and gives ``controls``, ``[batch, horizon, control_dim]``.

    Args:
        model: a `Learner` in float32 or float64, on any device; not changed.
        path: of the file.
        H_cycles: how many cycles it runs; those of the model's configuration if None.

    Returns:
        the largest error of the file's controls, relative to the scale of each, on 64 random
        problems of the size that the network was trained on; right are those of the network in
        float64.

    Raises:
        ModuleNotFoundError: if ONNX is not installed.
        ArithmeticError: if it is more than 1e-5 and four times that of the network in float32, or
            anything is not finite.
    """
    try:
        import onnx  # noqa: F401 - PyTorch's exporter needs it, with a less clear message
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"export needs {error.name}; install it with: "
                                  "pip install onnx onnxscript onnxruntime") from None
    validation.instance("model", model, Learner).check_dtype()
    path = validation.path("path", path)
    if H_cycles is not None:
        H_cycles = validation.whole("H_cycles", H_cycles)
    network = Controls(copy.deepcopy(model), H_cycles).eval().cpu().float()
    generator, scales = torch.Generator().manual_seed(0), (model.state_scale, model.control_scale)
    state_scale, control_scale = (scale.detach().cpu().float() for scale in scales)
    problems = torch.rand(2, 64, model.config.state_dim, generator=generator, dtype=torch.float32)
    problems = (2 * problems - 1) * 3**0.5 * state_scale  # with this root mean square
    with torch.no_grad():
        rounded = network(*problems)  # before tracing, since the system caches its matrices
        expected = copy.deepcopy(network).double()(*(states.double() for states in problems))
    own = float(((rounded - expected) / control_scale).abs().max())
    accepted = max(TOLERANCE, ROUNDING * own)
    batch = torch.export.Dim("batch", max=2**31 - 1)  # PyTorch 2.6 and 2.7 need a limit
    with io.written_whole(path) as temporary:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                network, tuple(problems), str(temporary), output_names=["controls"],
                input_names=["initial_state", "target_state"],
                dynamic_shapes={"initial_state": {0: batch}, "target_state": {0: batch}},
                dynamo=True, external_data=False, verbose=False)
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        differences = []
        for rows in (1, 7, 64):
            x0, xT = problems[:, :rows].numpy()
            (controls,) = session.run(None, {"initial_state": x0, "target_state": xT})
            off = (torch.from_numpy(controls) - expected[:rows]) / control_scale
            differences.append(off.abs().max())
        difference = float(torch.stack(differences).max())  # unlike Python's, NaN if one is
        if not difference <= accepted:
            raise ArithmeticError(f"{path} is not written: ONNX Runtime's controls are off by "
                                  f"{difference:.1e} of their scale, more than {accepted:.1e}")
    return difference
