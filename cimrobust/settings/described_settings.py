"""A settings model read as what it says of its fields: names, types, defaults, texts and ranges.

Command line, Python documentation and results are made from this.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import MISSING, dataclass, fields
from functools import cache
from numbers import Real
from types import NoneType, UnionType
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

from cimrobust.counts import check_count, check_number
from cimrobust.errors import UsageError
from cimrobust.field_texts import field_texts
from cimrobust.option import Option


@dataclass(frozen=True)
class DescribedSetting:
    """One field of a settings model.

    Attributes:
        name: Keyword in Python.
        annotation: Its type, without `Option`.
        default: Value where it is not given; `dataclasses.MISSING` for what must be given.
        text: Its docstring, on one line.
        option: What else it says of itself.
    """

    name: str
    annotation: Any
    default: Any
    text: str
    option: Option

    @property
    def option_name(self) -> str:
        """Name of the option, without dashes."""
        return self.option.name or self.name.replace("_", "-")

    @property
    def kind(self) -> Any:
        """The type but for None, without what it is a sequence of; `str` where it may be a path."""
        parts = [part for part in _alternatives(self.annotation) if part is not NoneType]
        found = parts[0] if len(parts) == 1 else str
        return get_origin(found) or found

    @property
    def entry(self) -> Any:
        """Type of an entry, of a setting that is a sequence or a mapping; else None."""
        parts = get_args(self.annotation)
        return parts[-1] if isinstance(self.default, tuple) and parts else None

    @property
    def least(self) -> int:
        """Smallest value of a whole number."""
        return 1 if self.option.least is None else int(self.option.least)

    def check(self, value: Any) -> None:
        """Raise UsageError for a value that is out of range; the message names option and value.

        What must lie within a fraction is left to whoever knows of what.
        """
        name, option = self.option_name, self.option
        if value is None:
            return
        if self.entry is str and isinstance(value, str):
            raise UsageError(
                f"{name} must be a sequence of texts, got the text {value!r} (--{name}); give a"
                " list, here of one"
            )
        self._check_type(value)
        if self.kind is int:
            if not isinstance(value, int):
                raise UsageError(
                    f"{name} must be a whole number, got {value!r} (--{name}); give one"
                )
            check_count(name, value, least=self.least)
        if self.kind is float and option.most is None:
            check_number(name, value, **({} if option.above is None else {"above": option.above}))
        for chosen in (value,) if self.entry is None else value:
            if option.choices and chosen not in option.choices:
                raise UsageError(
                    f"{name.replace('-', ' ')} must be one of {', '.join(option.choices)}, got"
                    f" '{chosen}' (--{name}); choose one of them"
                )

    def _check_type(self, value: Any) -> None:
        """Raise UsageError for a value of another type than the setting, but for whole numbers."""
        name = self.option_name
        if self.entry is not None:
            what = "texts" if self.entry is str else "numbers"
            kind: type = str if self.entry is str else Real
            if not isinstance(value, Collection) or not all(
                isinstance(part, kind) for part in value
            ):
                raise UsageError(
                    f"{name} must be a sequence of {what}, got {value!r} (--{name}); give a list"
                )
            return
        is_text = (
            self.kind is str and not self.option.choices and "Path" not in str(self.annotation)
        )
        for kind, what, applies in (
            (bool, "True or False", self.kind is bool),
            (Real, "a number", self.kind is float),
            (str, "a text", is_text),
        ):
            if applies and not isinstance(value, kind):
                raise UsageError(f"{name} must be {what}, got {value!r} (--{name}); give one")


def described(model: type[Any]) -> tuple[DescribedSetting, ...]:
    """Return the fields of a settings model in their order."""
    return _described(cast(Hashable, model))


@cache
def _described(model: Any) -> tuple[DescribedSetting, ...]:
    types, texts = get_type_hints(model, include_extras=True), field_texts(model)
    return tuple(
        DescribedSetting(
            field.name,
            *_without_option(types[field.name]),
            field.default if field.default_factory is MISSING else None,
            texts[field.name],
            _option_of(types[field.name]),
        )
        for field in fields(model)
    )


def check_values(settings: Any) -> None:
    """Raise UsageError for the first value of a settings model that is out of range."""
    for setting in described(type(settings)):
        setting.check(getattr(settings, setting.name))


def _without_option(annotation: Any) -> tuple[Any]:
    return (get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation,)


def _option_of(annotation: Any) -> Option:
    found = (part for part in get_args(annotation)[1:] if isinstance(part, Option))
    return next(found, Option()) if get_origin(annotation) is Annotated else Option()


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
