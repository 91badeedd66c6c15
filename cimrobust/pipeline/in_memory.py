"""Models, data, policies, profiles and results that are given as Python objects.

What is in memory is written to a private folder for one call, so that all of it is read by the same
checks as files are; the folder is gone afterwards. Results name such files ``model-in-memory.onnx``
and so on, and state their digests.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import tomli_w

from cimrobust.certificate.result_names import RESULT_FILES
from cimrobust.data.array_bytes import array_bytes
from cimrobust.errors import CimrobustError, UsageError
from cimrobust.files import folder_of_call
from cimrobust.input_file import printable
from cimrobust.onnx_io.model_bytes import is_module, model_bytes

P = ParamSpec("P")
ReturnT = TypeVar("ReturnT")

_MODELS = ("model", "labels_of")
_DATA = ("data", "calibration", "train_data")
_TABLES = {"policy": "policy", "device": "device profile"}
_FOLDERS = ("directory", "baseline", "previous", "transfer", "a", "b")
_PLACES = ("out", "chip", "junit", "sarif", "summary", "step_summary", "pdf", "key")
_KNOWN = frozenset({*_MODELS, *_DATA, *_TABLES, *_FOLDERS, *_PLACES})


def takes_objects(function: Callable[P, ReturnT]) -> Callable[P, ReturnT]:
    """Let a function be called with objects where it names files and folders by path.

    Arguments are known by their names, also inside of ``settings`` and of keywords. The function
    itself sees paths alone; its errors name files in memory without their folder.
    """
    signature = inspect.signature(function)
    required = [
        name
        for name, parameter in signature.parameters.items()
        if name in _KNOWN and parameter.default is parameter.empty
    ]

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> ReturnT:
        bound = signature.bind(*args, **kwargs)
        missing = [name for name in required if bound.arguments[name] is None]
        if not missing and all(_is_plain(*argument) for argument in _named(bound.arguments)):
            return function(*args, **kwargs)
        with folder_of_call() as folder:
            try:
                call = _Call(folder, bound.arguments.get("example_input"))
                for name in missing:
                    call.written(name, None)
                _as_paths(bound.arguments, call)
                return function(*bound.args, **bound.kwargs)
            except CimrobustError as err:
                err.args = tuple(str(text).replace(f"{folder}{os.sep}", "") for text in err.args)
                raise

    return called


def given_path(given: object) -> Path:
    """Return an argument that `takes_objects` has made a path of."""
    assert isinstance(given, str | Path)
    return Path(given)


def given_folder(given: object) -> Path:
    """Return the folder of a result that `takes_objects` has made a path of.

    A result may be named by its folder or by its file in it, such as ``out/certificate.json``.
    """
    path = given_path(given)
    return path.parent if path.name in RESULT_FILES and path.is_file() else path


@dataclass(frozen=True)
class _Call:
    """One call with objects.

    Attributes:
        folder: Where they are written.
        example_input: What a torch module is exported with; None: nothing was given.
    """

    folder: Path
    example_input: object

    def path(self, name: str, value: object) -> object:
        """Return a path in place of an argument; what is one, or not given, stays."""
        return value if _is_plain(name, value) else self.written(name, value)

    def written(self, name: str, value: object) -> Path:
        """Return a path in place of an object.

        Raises:
            UsageError: It is nothing that the argument takes.
        """
        if isinstance(value, os.PathLike):
            return Path(os.fspath(value))
        if name in _FOLDERS:
            return _folder(name, value)
        if name in _PLACES:
            raise UsageError(
                f"{name} must be a path, got {type(value).__name__} ({name}); give text or a Path"
            )
        if name in _TABLES:
            return self._file(name, "toml", _toml(name, value))
        if name in _DATA:
            return self._file(name, "npz", array_bytes(value, name=name))
        example = self.example_input if is_module(value) else None
        return self._file(name, "onnx", model_bytes(value, example_input=example))

    def _file(self, name: str, suffix: str, content: bytes) -> Path:
        path = self.folder / f"{name.replace('_', '-')}-in-memory.{suffix}"
        path.write_bytes(content)
        return path


def _named(arguments: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the arguments of a call by name, with those inside of keywords and settings."""
    found = list(arguments.items())
    for inside in (arguments.get("options"), arguments.get("settings")):
        if isinstance(inside, Mapping):
            found += [(str(name), value) for name, value in inside.items()]
        elif is_dataclass(inside):
            found += [(field.name, getattr(inside, field.name)) for field in fields(inside)]
    return found


def _is_plain(name: str, value: object) -> bool:
    """Tell whether an argument is what the functions themselves take."""
    if name == "example_input":
        return value is None
    return name not in _KNOWN or value is None or isinstance(value, str | Path)


def _as_paths(arguments: dict[str, Any], call: _Call) -> None:
    """Put paths in place of objects."""
    modules = [name for name, value in _named(arguments) if name in _MODELS and is_module(value)]
    if call.example_input is not None and not modules:
        raise UsageError(
            "example_input must come with a torch.nn.Module, got another model (example_input);"
            " leave it out"
        )
    for name, value in list(arguments.items()):
        if name in ("options", "settings"):
            arguments[name] = _with_paths(value, call)
        elif name in _KNOWN:
            arguments[name] = call.path(name, value)


def _with_paths(inside: Any, call: _Call) -> Any:
    """Return keywords or settings with paths in place of objects."""
    if isinstance(inside, Mapping):
        return {
            name: call.path(name, value) if name in _KNOWN else value
            for name, value in inside.items()
        }
    if not is_dataclass(inside) or isinstance(inside, type):
        return inside
    values = {field.name: getattr(inside, field.name) for field in fields(inside)}
    changed = {
        name: call.path(name, value) for name, value in values.items() if not _is_plain(name, value)
    }
    return replace(inside, **changed)


def _folder(name: str, value: object) -> Path:
    found = getattr(value, "directory", None)
    if isinstance(found, Path) and not isinstance(value, type):
        return found
    raise UsageError(
        f"{name} must be a folder or a result that lies in one, got {type(value).__name__}"
        f" ({name}); give the path, or what cimrobust.analyze or Certificate.read returned"
    )


def _toml(name: str, value: object) -> bytes:
    what = _TABLES[name]
    if not isinstance(value, Mapping):
        raise UsageError(
            f"{what} must be a file or its tables, got {type(value).__name__} ({name}); give a path"
            " or a dictionary"
        )
    try:
        return tomli_w.dumps(dict(value)).encode()
    except (TypeError, ValueError, AttributeError, RecursionError) as err:
        raise UsageError(
            f"{what} must hold what TOML can, got {printable(err)[:200]} ({name}); leave out keys"
            " that are None, and give plain numbers, texts, lists and dictionaries"
        ) from err
