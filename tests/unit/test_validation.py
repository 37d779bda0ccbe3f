import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import torch

from trc_lib import validation


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(2)])
def test_whole_accepts_integers_and_returns_a_plain_int(value):
    assert type(validation.whole("n", value)) is int and validation.whole("n", value) == value


@pytest.mark.parametrize("value", [1.0, True, "3", None, np.float64(2.0)])
def test_whole_refuses_what_is_no_integer_and_names_the_argument(value):
    with pytest.raises(TypeError, match=r"horizon=.* is not a whole number"):
        validation.whole("horizon", value)


def test_whole_keeps_to_its_bound():
    assert validation.whole("seed", 0, at_least=0) == 0
    with pytest.raises(ValueError, match=r"horizon=0 is too small; needs at least 1"):
        validation.whole("horizon", 0)


@pytest.mark.parametrize("value", [0.5, 2, np.float32(0.25)])
def test_positive_accepts_numbers_and_returns_a_plain_float(value):
    number = validation.positive("dt", value)
    assert type(number) is float and number == value


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_positive_refuses_zero_negative_and_not_finite(value):
    with pytest.raises(ValueError, match=r"dt=.* give a finite number above zero"):
        validation.positive("dt", value)


@pytest.mark.parametrize("value", ["1", None, True, [1.0]])
def test_positive_refuses_what_is_no_number(value):
    with pytest.raises(TypeError, match=r"dt=.* is not a number"):
        validation.positive("dt", value)


def test_positive_accepts_zero_only_on_request():
    assert validation.positive("warmup", 0, or_zero=True) == 0.0
    with pytest.raises(ValueError, match="zero or above"):
        validation.positive("warmup", -1e-9, or_zero=True)


def test_one_of_returns_the_accepted_and_lists_it_otherwise():
    assert validation.one_of("size", "small", ("small", "medium")) == "small"
    with pytest.raises(ValueError, match="size='large' is unknown; accepted are 'small', 'medium'"):
        validation.one_of("size", "large", ("small", "medium"))


def test_device_auto_takes_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert validation.device("auto") == validation.device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert validation.device("auto") == torch.device("cuda")
    assert validation.device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match=r"device='cuda:2' is not available.* sees 2 CUDA devices"):
        validation.device("cuda:2")


@pytest.mark.parametrize(("name", "reason"), [
    ("tpu9", "is unknown"), ("npu", "is unknown"), ("cuda:0", "sees no CUDA device"),
    *[(name, "need float64, which Apple GPUs lack") for name in ("mps", "xpu", "hpu", "meta")],
    (1.5, "is unknown")])
def test_device_refuses_with_the_reason(monkeypatch, name, reason):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"device=.*{reason}"):
        validation.device(name)


@pytest.mark.parametrize("value", [
    [[1, 2], [3, 4]], np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)])
def test_array_reads_lists_and_numpy_as_float64(value):
    tensor = validation.array("state", value, (2,))
    assert tensor.dtype == torch.float64 and tensor.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_array_keeps_a_tensor_as_it_is_unless_asked():
    tensor = torch.ones(3, 2)
    assert validation.array("state", tensor, (None, 2)) is tensor
    assert validation.array("state", tensor, (2,), torch.float64).dtype == torch.float64


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)])
def test_array_refuses_other_last_dimensions_and_says_which_it_needs(shape):
    with pytest.raises(ValueError, match=r"state has shape .*; needs \[\.\.\., 2\]"):
        validation.array("state", torch.zeros(shape), (2,))


def test_array_refuses_too_few_dimensions():
    with pytest.raises(ValueError, match=r"controls has shape \[1\]; needs \[\.\.\., any, 1\]"):
        validation.array("controls", torch.zeros(1), (None, 1))


@pytest.mark.parametrize("value", [
    torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.bool), [1j, 2.0],
    torch.zeros(2, dtype=torch.complex64), "ab", ["a", "b"], None, [[1.0], [1.0, 2.0]]])
def test_array_refuses_what_is_not_made_of_floats(value):
    with pytest.raises(TypeError, match="state"):
        validation.array("state", value, (2,))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_array_takes_values_whose_sum_overflows_and_refuses_infinities_that_cancel(dtype):
    large = torch.full((4,), torch.finfo(dtype).max, dtype=dtype)
    assert torch.equal(validation.array("state", large, [4]), large)
    large[:2] = torch.tensor([float("inf"), -float("inf")])
    with pytest.raises(ValueError, match="state holds NaN or infinite"):
        validation.array("state", large, [4])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_array_refuses_values_that_are_not_finite(value):
    with pytest.raises(ValueError, match="state holds NaN or infinite"):
        validation.array("state", [0.0, value], (2,))


@pytest.mark.parametrize("check", [validation.whole, validation.positive])
@pytest.mark.parametrize("value", [10**400, 2**63, -10**400])
def test_numbers_too_large_for_int64_or_float_are_refused_by_name(check, value):
    if check is validation.positive and value == 2**63:
        assert validation.positive("dt", value) == 2.0**63
    else:
        with pytest.raises(ValueError, match="dt="):
            check("dt", value)


def test_whole_keeps_to_its_upper_bound():
    assert validation.whole("H_cycles", 10, at_most=10) == 10
    with pytest.raises(ValueError, match="H_cycles=11 is too large; at most 10 is accepted"):
        validation.whole("H_cycles", 11, at_most=10)


@pytest.mark.parametrize("value", [
    np.array(["mse", "rms"]), torch.ones(2), None, ["mse"], float("nan")], ids=repr)
def test_one_of_and_device_refuse_what_is_no_string(value):
    with pytest.raises(ValueError, match=r"objective=.* is unknown; accepted are 'mse'"):
        validation.one_of("objective", value, ("mse",))
    with pytest.raises(ValueError, match=r"device=.* is unknown"):
        validation.device(value)


@pytest.mark.parametrize("value", ["no", 0, 1, None, np.bool_(True)], ids=repr)
def test_switch_accepts_true_and_false_alone(value):
    assert validation.switch("resume", True) is True and validation.switch("resume", False) is False
    with pytest.raises(TypeError, match=r"resume=.* is not accepted; give True or False"):
        validation.switch("resume", value)


@pytest.mark.parametrize("value", ["abc", None, pathlib.Path], ids=repr)
def test_like_refuses_what_lacks_an_attribute_and_classes(value):
    here = pathlib.Path(".")
    assert validation.like("folder", here, "a Path", "exists", "name") is here
    with pytest.raises(TypeError, match=r"folder=.* is not accepted; needs a Path"):
        validation.like("folder", value, "a Path", "exists", "name")


@pytest.mark.parametrize("value", ["abc", None, True, int], ids=repr)
def test_instance_refuses_other_classes_and_the_class_itself(value):
    assert validation.instance("count", 3, int) == 3
    with pytest.raises(TypeError, match=r"folder=.* is not accepted; needs a Path"):
        validation.instance("folder", value, pathlib.Path)
    with pytest.raises(TypeError, match=r"planner=<class 'int'> is not accepted; needs a Callable"):
        validation.instance("planner", int, Callable)


@pytest.mark.parametrize("value", [None, 3, b"bytes", "nul\0byte", ["a"]], ids=repr)
def test_path_refuses_what_is_no_path(value):
    assert validation.path("folder", "a/b") == pathlib.Path("a/b")
    with pytest.raises(TypeError, match=r"folder=.* is not accepted; needs a path"):
        validation.path("folder", value)


@pytest.mark.parametrize("value", [
    torch.zeros(3, 2).to_sparse(), torch.zeros(3, 2, device="meta")], ids=["sparse", "meta"])
def test_array_refuses_tensors_that_are_not_dense(value):
    with pytest.raises(TypeError, match="state is sparse or holds no values; give a dense tensor"):
        validation.array("state", value, (2,))


def test_result_refuses_overflow_and_names_the_arguments():
    assert validation.result("the states", torch.ones(2), "controls are").tolist() == [1, 1]
    with pytest.raises(ValueError, match="controls are too large: the states would not be finite"):
        validation.result("the states", torch.tensor([1.0, float("inf")]), "controls are")
