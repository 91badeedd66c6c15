"""Records that hold only what a test is about; reading anything else of them is an error."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


def partial(model: type[BaseModel], plain: dict[str, Any]) -> Any:
    """Return a model with the given fields alone, nested ones too."""
    return model.model_construct(
        _fields_set=None,
        **{
            name: _value(model.model_fields[name].annotation, value)
            for name, value in plain.items()
        },
    )


def _value(annotation: Any, value: Any) -> Any:
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    kinds = tuple(get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds)
    for kind in kinds:
        if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, BaseModel):
            return partial(kind, value)
        if isinstance(value, list) and (origin := get_origin(kind)) in (list, tuple):
            return origin(_value(get_args(kind)[0], item) for item in value)
    return value
