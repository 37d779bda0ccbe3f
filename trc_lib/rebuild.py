"""Objects as plain values, for files: the name of their class, and what its constructor takes."""

import inspect
import math

import numpy as np
import torch


class Rebuildable:
    """An object that a file can hold and bring back.

    The file names the class and holds `parameters`, never code. The class must be known when the
    file is read: import its module first.
    """

    def parameters(self) -> dict:
        """The arguments of the constructor, by name: here the attributes of the same names.

        Numbers, strings, tensors, NumPy arrays, lists of them, None, or objects of this kind.
        """
        names = inspect.signature(_saved_class(self).__init__).parameters
        return {name: getattr(self, name) for name in list(names)[1:]}

    def contents(self) -> dict:
        """The class and the parameters as nested plain values, which JSON can hold.

        Raises:
            TypeError: if a parameter is missing or cannot be held.
        """
        cls = _saved_class(self)
        try:
            parameters = self.parameters()
        except AttributeError as error:
            raise TypeError(f"{cls.__name__} cannot be saved: {error}; keep each argument of the "
                            "constructor under its name, or define parameters()") from None
        return {"class": _name(cls), "parameters": {
            name: _plain(f"{cls.__name__}'s parameter {name}", value)
            for name, value in parameters.items()}}

    def same_as(self, other: "Rebuildable") -> bool:
        """Whether ``other`` is of the same class with the same parameters, to the bit."""
        return isinstance(other, Rebuildable) and self.contents() == other.contents()

    def check_rebuilt(self, contents: dict) -> None:
        """Raise a ValueError if this object, made from ``contents``, differs from what they say."""
        if _without_modules(self.contents()) != _without_modules(contents):
            raise ValueError(f"{contents['class']} is not the same again when it is made from its "
                             f"parameters {', '.join(contents['parameters'])}: define "
                             "parameters() so that it is")


def rebuilt(base: type, contents: object) -> object:
    """The object of class ``base`` or a subclass with these `Rebuildable.contents`.

    Raises:
        ValueError: if the class is unknown, or does not give the same object again.
    """
    if not isinstance(contents, dict) or not {"class", "parameters"} <= contents.keys():
        raise ValueError(f"{base.__name__}: {str(contents)[:80]!r} names no class and parameters")
    cls = _class_named(base, contents["class"])
    try:
        made = cls(**{name: _value(value) for name, value in contents["parameters"].items()})
    except TypeError as error:
        raise ValueError(f"{contents['class']} cannot be made again: {error}") from None
    made.check_rebuilt(contents)
    return made


def check_saveable(base: type, value: Rebuildable) -> None:
    """Raise an error if ``value`` could not be brought back from a file."""
    rebuilt(base, value.contents())


def _saved_class(value):
    """The class that a file names: an ancestor, if those below it only have a constructor."""
    return next(cls for cls in type(value).__mro__
                if any(not name.startswith("__") for name in vars(cls)))


def _name(cls):
    return (cls.__qualname__ if cls.__module__.split(".")[0] == "trc_lib"
            else f"{cls.__module__}.{cls.__qualname__}")


def _class_named(base, name):
    """The latest class with this name below ``base``; its module may have another name now."""
    known, left = {}, [base]
    while left:
        cls = left.pop()
        known[_name(cls)] = cls
        left += reversed(cls.__subclasses__())
    alike = [each for each in known if "." in each and _last(each) == _last(name)]
    if name not in known and len(alike) == 1 and "." in str(name):
        name = alike[0]
    if name not in known:
        raise ValueError(f"class {name!r} is unknown; import the module that defines it first. "
                         f"Known are {', '.join(sorted(known))}")
    return known[name]


def _last(name):
    return str(name).split(".")[-1]


def _without_modules(contents):
    """``contents`` with the bare name of each class."""
    if isinstance(contents, list):
        return [_without_modules(each) for each in contents]
    if not isinstance(contents, dict):
        return contents
    return {name: _last(value) if name == "class" else _without_modules(value)
            for name, value in contents.items()}


def _plain(name, value):
    if isinstance(value, Rebuildable):
        return value.contents()
    if isinstance(value, torch.Tensor | np.ndarray):
        kind = "tensor" if torch.is_tensor(value) else "array"
        value = value.detach().cpu().numpy() if torch.is_tensor(value) else value
        if value.dtype.kind not in "biuf":
            raise TypeError(f"{name} has dtype {value.dtype}; only numbers can be saved")
        return {kind: value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return [_plain(name, each) for each in value]
    if value is None or isinstance(value, bool | int | str) or (
            isinstance(value, float) and not math.isnan(value)):
        return value
    raise TypeError(f"{name} is {value!r}; only numbers, strings, tensors, arrays, lists and None "
                    "can be saved")


def _value(plain):
    if isinstance(plain, list):
        return [_value(each) for each in plain]
    if not isinstance(plain, dict):
        return plain
    if "class" in plain:
        return rebuilt(Rebuildable, plain)
    (kind, values), (_, dtype) = plain.items()
    array = np.array(values, dtype=dtype)
    return torch.from_numpy(array) if kind == "tensor" else array
