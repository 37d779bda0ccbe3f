"""A trained network as an ONNX file, for runtimes without PyTorch."""

import contextlib
import copy
import logging
import warnings

import torch

from trc_lib import io, validation

TOLERANCE = 1e-5  # between the controls of the file and those of the network, m/s^2


class Controls(torch.nn.Module):
    """What is exported: (initial_state, target_state) -> controls, all float32 and in physical units."""

    def __init__(self, model, H_cycles):
        super().__init__()
        self.model, self.H_cycles = model, H_cycles

    def forward(self, initial_state, target_state):
        return self.model.predict(initial_state, target_state, self.H_cycles)["controls"]


@contextlib.contextmanager
def _quiet():
    """The exporter talks about its own insides, in warnings and in its log: neither is the reader's concern."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def export_onnx(model, path, H_cycles=None):
    """Write ``model`` to ``path`` as ONNX, whole or not at all, and only if ONNX Runtime gives the same controls.

    The file takes ``initial_state`` and ``target_state``, ``[batch, state_dim]`` float32, any batch, and gives ``controls``,
    ``[batch, horizon, control_dim]``.

    Args:
        model: a `Learner`; left as it is, whatever its device and dtype.
        path: of the file.
        H_cycles: how many cycles it shall run; those of the model's configuration if None.

    Returns:
        the largest difference that was seen between the two, on 64 random problems in ±2.5.

    Raises:
        ModuleNotFoundError: if ONNX is not installed, saying how to install it.
        ArithmeticError: if the two differ by more than 1e-5, or give anything that is not a number.
    """
    try:
        import onnx  # noqa: F401 - PyTorch's exporter needs it, and says so less clearly
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"export needs {error.name}; install it with: pip install -e '.[export]'") from None
    validation.like("model", model, "a Learner", "predict", "config")
    if H_cycles is not None:
        H_cycles = validation.whole("H_cycles", H_cycles)
    network = Controls(copy.deepcopy(model), H_cycles).eval().cpu().float()
    problems = (torch.rand(2, 64, model.config.state_dim, generator=torch.Generator().manual_seed(0)) - 0.5) * 5
    with torch.no_grad():
        expected = network(*problems)  # before it is traced: the system keeps the matrices that it makes in its first call
    batch = torch.export.Dim("batch", max=2**31 - 1)  # PyTorch 2.6 and 2.7 refuse one without a limit
    with io.written_whole(validation.path("path", path)) as temporary:
        with _quiet(), torch.no_grad():
            torch.onnx.export(network, tuple(problems), str(temporary), input_names=["initial_state", "target_state"],
                              output_names=["controls"], dynamic_shapes={"initial_state": {0: batch}, "target_state": {0: batch}},
                              dynamo=True, external_data=False, verbose=False)
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        differences = []
        for rows in (1, 7, 64):
            x0, xT = problems[:, :rows].numpy()
            (controls,) = session.run(None, {"initial_state": x0, "target_state": xT})
            differences.append((torch.from_numpy(controls) - expected[:rows]).abs().max())
        difference = float(torch.stack(differences).max())  # torch's max, unlike Python's, lets no NaN pass
        if not difference <= TOLERANCE:
            raise ArithmeticError(f"{path} is not written: ONNX Runtime's controls differ by {difference:.1e}, "
                                  f"more than {TOLERANCE}")
    return difference
