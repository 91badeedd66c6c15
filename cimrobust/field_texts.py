"""The strings that stand behind fields: what schemas, options and reference say of them."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise
from typing import Any

_WITHOUT_TEXTS = frozenset({"builtins", "pydantic", "typing", "enum", "abc"})


@cache
def field_texts(kind: type[Any]) -> dict[str, str]:
    """Return the string that stands behind each field of a class, inherited fields included."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.partition(".")[0] in _WITHOUT_TEXTS:
            continue
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in pairwise(body.body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
            ):
                texts[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return texts
