"""One problem, and 4,096 at once: PyTorch as it is, compiled, and ONNX Runtime; beside what the arithmetic alone takes."""

import shutil
import tempfile

import onnxruntime
import torch

from tests.benchmarks.timing import arithmetic_limit, seconds, threads
from trc_lib.course.experiments import multiply_adds
from trc_lib.data import sample_states
from trc_lib.export import export_onnx
from trc_lib.model import TinyRecursiveControl

AIMS = {"milliseconds for one": 0.3, "problems a second": 100_000}


def onnx_runtime(path, number):
    """Solve by ONNX Runtime on ``number`` threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = number, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x0, xT: session.run(None, {"initial_state": x0.numpy(), "target_state": xT.numpy()})


def _timed(solve_one, solve_many, one, many, repeats):
    """Both figures of one way to solve."""
    with torch.no_grad():
        with threads(1):
            alone = seconds(lambda: solve_one(*one), repeats)
        with threads(2):
            together = seconds(lambda: solve_many(*many), max(3, repeats // 20))
    return {"milliseconds for one": 1e3 * alone, "problems a second": len(many[0]) / together}


def bench(sizes=("medium", "small"), num_many=4096, repeats=200, compiled=("medium",)):
    """Every way to solve, for every size, with one thread for one problem and two for many."""
    result, limits = {}, {number: arithmetic_limit(number) for number in (1, 2)}
    many = [states.float() for states in sample_states(num_many, seed=0)]
    one = [states[:1] for states in many]
    for size in sizes:
        model = TinyRecursiveControl.create_two_level(size).eval()
        work = multiply_adds(model)
        ways = {"arithmetic alone": {"milliseconds for one": 1e3 * work / limits[1], "problems a second": limits[2] / work},
                "PyTorch": _timed(model.predict, model.predict, one, many, repeats)}
        with tempfile.TemporaryDirectory() as folder:
            export_onnx(model, f"{folder}/model.onnx")
            solvers = [onnx_runtime(f"{folder}/model.onnx", number) for number in (1, 2)]
            ways["ONNX Runtime"] = _timed(*solvers, one, many, repeats)
        if size in compiled and shutil.which("g++"):  # a minute or two for each size
            torch.compiler.reset()
            fast = torch.compile(lambda x0, xT, model=model: model.predict(x0, xT)["controls"], dynamic=False)
            ways["torch.compile"] = _timed(fast, fast, one, many, repeats)
        elif size in compiled:
            ways["torch.compile"] = "not measured: it needs a C++ compiler, g++"
        result[size] = {"multiply-adds": work} | ways
    return result
