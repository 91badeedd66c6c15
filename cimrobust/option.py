"""What a setting says of itself beside its type, default and docstring.

A field of a settings model carries it as ``Annotated`` metadata, where it needs any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PathKind = Literal["any", "file", "folder"]


@dataclass(frozen=True, kw_only=True)
class Option:
    """How a setting is given on the command line, its range, and whether results state it.

    Attributes:
        name: Name of the option without dashes; None: that of the field with - for _.
        metavar: What stands for the value in help; None: what its type gives.
        choices: Values that a text may have; empty: any.
        least: Smallest value; of whole numbers 1 where it is not given.
        most: Largest value; None: what `cimrobust.counts` allows.
        above: Value that a number must exceed.
        path: What a path may be: a file, a folder or any of the two; None: a text, which may be
            something else than a path too.
        is_stated: Whether a result states the setting.
        is_stated_by_default: Whether a result states the setting where it was not given; a setting
            that came later is not, so that older results stay as they are.
        takes: Type of the keyword of Python, where it takes objects beside paths; None: that of the
            field.
        is_option: Whether there is an option; False: it is for Python alone.
    """

    name: str | None = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    path: PathKind | None = None
    takes: str | None = None
    is_stated: bool = True
    is_stated_by_default: bool = True
    is_option: bool = True
