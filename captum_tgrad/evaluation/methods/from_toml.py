"""Reads methods from a TOML file: classes of Captum, of grad-cam or of this package."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from torch import Tensor, nn

from captum_tgrad._support.extras import import_from_extra
from captum_tgrad._support.random_state import own_randomness
from captum_tgrad._support.suggest import did_you_mean, few
from captum_tgrad._support.untouched import copy_model
from captum_tgrad.attribution.cam import CamAttribution
from captum_tgrad.evaluation.methods.builders import black_batch, leaf, one_by_one
from captum_tgrad.evaluation.methods.method import Black, Compute, Method

_BLACK = "black"
_PASSED = {"self", "model", "forward_func", "layer", "inputs", "target"}
_TRUSTED = ("captum", "captum_tgrad", "pytorch_grad_cam")
_KIND_OF_KEY = {"constructor": dict, "attribute": dict, "random": bool, "layer": str, "title": str}
_KEYS = {"class", *_KIND_OF_KEY}
_KINDS = {dict: "a table", bool: "true or false", str: "a string"}
_PLAIN = {**_KINDS, int: "an integer", float: "a number", NoneType: ""}


def read_methods(path: str | Path, *, allow_imports: str | Sequence[str] = ()) -> dict[str, Method]:
    """Reads methods from a TOML file, one table for each.

    Such a file can run code: it chooses classes and their arguments. Only attribution classes of
    Captum, of the grad-cam package and of this package are imported, unless ``allow_imports`` names
    further packages, whose modules then run. Read only files that you trust.

    The name of a table is that of the method. Its keys, all optional except ``class``, are:
    ``class``, a class with a method ``attribute``, or of grad-cam; ``title``, for tables;
    ``layer``, the path of a module in the model, for layer methods; ``constructor``, further
    constructor arguments; ``attribute``, arguments of ``attribute``, where
    ``baselines = "black"`` is a black image, and arrays are tuples; ``random = true`` if the class
    draws random numbers: images are then explained one by one, each with its own seed. ::

        [deep_lift]
        class = "captum.attr.DeepLift"
        attribute = { baselines = "black" }

        [layer_cam]
        class = "pytorch_grad_cam.LayerCAM"
        layer = "features.7"

    Args:
        path: The file.
        allow_imports: Further packages whose classes the file may name.

    Returns:
        The methods by name.

    Raises:
        FileNotFoundError: The file does not exist.
        ModuleNotFoundError: Python is older than 3.11, and ``tomli`` is not installed.
        ValueError: The file is not TOML, or a table is invalid, has an option that its class does
            not have or of another type, or names a class of another package.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"methods {path} not found: pass a TOML file")
    toml: Any = (
        import_module("tomllib")
        if sys.version_info >= (3, 11)
        else import_from_extra("tomli", "evaluate")
    )
    try:
        tables = toml.loads(path.read_text(encoding="utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error
    further = [allow_imports] if isinstance(allow_imports, str) else allow_imports
    allowed = {*_TRUSTED, *further}
    return {name: _method(name, table, path, allowed) for name, table in tables.items()}


def _method(name: str, table: Any, path: Path, allowed: Collection[str]) -> Method:
    where = f"[{name}] of {path}"
    if not isinstance(table, dict) or not isinstance(table.get("class"), str):
        raise ValueError(f'{where} must be a table with class = "captum.attr.CLASS"')
    unknown = sorted(table.keys() - _KEYS)
    if unknown:
        raise ValueError(
            f"{where} has unknown keys {', '.join(unknown)}: use {', '.join(sorted(_KEYS))}"
        )
    for key, of_key in _KIND_OF_KEY.items():
        if not isinstance(table.get(key, of_key()), of_key):
            raise ValueError(f"{key} in {where} must be {_KINDS[of_key]}")
    kind = _class(table["class"], where, allowed)
    _check_options(kind, table, where)
    build = partial(_build, kind, table)
    title = str(table.get("title", name))
    return Method(name, title, "as the class does", build, dict(table), source=table["class"])


def _check_options(kind: Any, table: Mapping[str, Any], where: str) -> None:
    """Raises ValueError for a missing layer, and for options that do not fit a class of Captum."""
    if kind.__module__.startswith("pytorch_grad_cam"):
        return  # CamAttribution checks their arguments.
    name = kind.__name__
    calls = {"constructor": (kind, name), "attribute": (kind.attribute, f"{name}.attribute")}
    for key, (called, shown) in calls.items():
        parameters = inspect.signature(called).parameters
        if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            continue
        known = [each for each in parameters if each not in _PASSED]
        for option, value in table.get(key, {}).items():
            if option not in known:
                otherwise = f"it has {', '.join(known) or 'no options'}"
                advice = did_you_mean(option, known, otherwise)
                raise ValueError(
                    f"{key} in {where} has {option!r}, which is not an option of {shown}: {advice}"
                )
            kinds = get_args(parameters[option].annotation) or (parameters[option].annotation,)
            fits = type(value) in kinds or (type(value) is int and float in kinds)
            if not fits and set(kinds) <= _PLAIN.keys():  # other types may be converted
                wanted = " or ".join(_PLAIN[each] for each in kinds if each is not NoneType)
                raise ValueError(f"{key} in {where} has {option} = {value!r}: pass {wanted}")
    layer = inspect.signature(kind).parameters.get("layer")
    if layer is not None and layer.default is layer.empty and "layer" not in table:
        raise ValueError(f'{where} needs layer = "MODULE": {name} explains a layer of the model')


def _class(path: str, where: str, allowed: Collection[str]) -> Any:
    """Imports an attribution class by its full name."""
    module, _, name = path.rpartition(".")
    _check_package(module, path, where, allowed)
    try:
        found = getattr(import_module(module), name, None)
    except (ImportError, ValueError) as error:
        raise ValueError(f"class {path!r} in {where} cannot be imported: {error}") from error
    if not isinstance(found, type):
        advice = did_you_mean(name, dir(import_module(module)), f"{module} has no such class")
        raise ValueError(f"class {path!r} in {where} not found: {advice}")
    # A trusted module may have imported the class from anywhere.
    _check_package(found.__module__, path, where, allowed)
    is_cam = found.__module__.startswith("pytorch_grad_cam")
    if not is_cam and not callable(getattr(found, "attribute", None)):
        raise ValueError(
            f"class {path!r} in {where} is not an attribution: use a class with a method"
            " 'attribute', such as captum.attr.Saliency"
        )
    return found


def _check_package(module: str, path: str, where: str, allowed: Collection[str]) -> None:
    parts = module.split(".")
    if not any(".".join(parts[:length]) in allowed for length in range(1, len(parts) + 1)):
        raise ValueError(
            f"class {path!r} in {where} is from {parts[0]!r}, but only classes from"
            f" {', '.join(_TRUSTED)} are imported: if you trust the file and the package, allow it"
            f" (--allow-imports {parts[0]}, or allow_imports={parts[0]!r})"
        )


def _build(kind: Any, table: Mapping[str, Any], model: nn.Module, black: Black) -> Compute:
    # On a copy: some classes leave hooks in the model if they fail, which would change the results
    # of all later methods.
    duplicate = copy_model(model, share_parameters=True)
    options = _tuples(table.get("constructor", {}))
    layer = _layer(duplicate, table["layer"]) if "layer" in table else None
    if kind.__module__.startswith("pytorch_grad_cam"):
        method = CamAttribution(duplicate, kind, None if layer is None else [layer], **options)
    else:
        method = kind(duplicate, *(() if layer is None else (layer,)), **options)

    def explain(inputs: Tensor, target: Tensor, seed: int) -> Tensor:
        # TOML has no tuples, and Captum takes only tuples of sizes, strides and layers.
        options = _tuples(table.get("attribute", {}))
        if options.get("baselines") == _BLACK:
            options["baselines"] = black_batch(black, inputs)
        with own_randomness(seed, inputs.device):
            found = method.attribute(leaf(inputs), target=target, **options)
        if not isinstance(found, Tensor):
            raise TypeError(f"{kind.__name__} returned {type(found).__name__}, not one tensor")
        # A map of a layer ranks places, not the layer's channels.
        return found if found.shape[1:] == inputs.shape[1:] else found.sum(1, keepdim=True)

    if table.get("random", False):
        return one_by_one(lambda image, target, seed, at_once: explain(image, target, seed))
    return lambda inputs, target: explain(inputs, target, 0)


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _tuples(each) for name, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _layer(model: nn.Module, path: str) -> nn.Module:
    names: dict[str, nn.Module] = dict(model.named_modules())
    if path in names and path:
        return names[path]
    advice = did_you_mean(path, names, f"its layers are {few([*dict(model.named_children())])}")
    raise ValueError(f"layer {path!r} not found in the model: {advice}")
