"""What a caller gave for the settings of a command, put together and checked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from cimrobust.errors import UsageError
from cimrobust.run import Run, available_processors
from cimrobust.settings.commands import Command
from cimrobust.settings.described_settings import described

PartT = TypeVar("PartT")


@dataclass(frozen=True)
class Gathered:
    """The settings of one call.

    Attributes:
        command: Whose they are.
        values: Value of every setting by name.
    """

    command: Command
    values: Mapping[str, Any]

    def part(self, model: type[PartT], /, **arguments: Any) -> PartT:
        """Return the settings of one model.

        Args:
            model: One of `Command.parts`.
            arguments: Fields of it that are no settings of the command.
        """
        known = {
            setting.name: self.values[setting.name]
            for setting in described(model)
            if setting.name in self.values
        }
        return model(**{**known, **arguments})

    def run(self) -> Run:
        """Return how to compute."""
        given = {name: value for name, value in self.values.items() if value is not None}
        return replace(self, values=given | {"workers": self._workers()}).part(Run)

    def _workers(self) -> int:
        return self.values["workers"] or available_processors()


def gather(
    command: Command, settings: object, run: Run | None, options: Mapping[str, Any]
) -> Gathered:
    """Put together what a caller gave: keywords, before a run, before settings, before defaults.

    Args:
        command: Whose settings they are.
        settings: One of the models of the command, or a mapping by name; None: none.
        run: How to compute; None: as keywords and settings say.
        options: What was given by keyword.

    Raises:
        UsageError: A name is no setting of the command, or a value is out of range.
    """
    given = _given(command, settings)
    values = {name: setting.default for name, setting in command.settings.items()}
    values |= given
    if run is not None:
        _check_run(command, run)
        values |= _of_run(run, values, given)
    _check_names(command, options)
    values |= options
    values = {name: _plain(value) for name, value in values.items()}
    for name, value in values.items():
        command.settings[name].check(value)
    return Gathered(command, values)


def _given(command: Command, settings: object) -> dict[str, Any]:
    """Return what stands in the settings object of a call, by name."""
    if settings is None:
        return {}
    if isinstance(settings, Mapping):
        _check_names(command, settings)
        return dict(settings)
    if is_dataclass(settings) and type(settings) in command.parts:
        found = {field.name: getattr(settings, field.name) for field in fields(settings)}
        return {name: value for name, value in found.items() if name in command.settings}
    models = " or ".join(part.__name__ for part in command.parts)
    raise UsageError(
        f"settings must be {models} or a mapping by name, got {type(settings).__name__}"
        f" (cimrobust.{command.name}, settings); give one of them"
    )


def _plain(value: Any) -> Any:
    """Return a number of NumPy as that of Python, which results can state."""
    is_numpy = type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0
    return value.item() if is_numpy else value


def _check_run(command: Command, run: object) -> None:
    if not isinstance(run, Run):
        raise UsageError(
            f"run must be a Run, got {type(run).__name__} (cimrobust.{command.name}, run); give"
            " cimrobust.Run(...)"
        )


def _of_run(run: Run, values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run sets.

    Where a run has its default and the settings have a value, theirs stays: a training's seed is
    not lost because somebody gives a run for its threads.
    """
    return {
        setting.name: getattr(run, setting.name)
        for setting in described(Run)
        if setting.name in values
        and (setting.name not in given or getattr(run, setting.name) != setting.default)
    }


def _check_names(command: Command, names: Mapping[str, Any]) -> None:
    """Raise UsageError for the first name that is no setting of a command."""
    for name in names:
        if name not in command.settings:
            near = difflib.get_close_matches(str(name), command.settings, n=1, cutoff=0.0)
            raise UsageError(
                f"keyword must be a setting of cimrobust.{command.name}, got {name!r}"
                f" (cimrobust.{command.name}); the nearest known one is {near[0]!r}"
            )
