"""The Python interface: what `import cimrobust` offers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, is_dataclass
from typing import Any

import cimrobust
from cimrobust.settings import python_inputs
from cimrobust.settings.described_settings import described
from cimrobust.settings.documented import annotation_text, setting_text
from generator.markdown import prose, table

_KIND = re.compile(r"^#: (.+)\n(\w+): TypeAlias = (.+)$", re.MULTILINE)
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):$")


def page() -> str:
    """Return the page of public names."""
    parts = [
        "# Python\n",
        "Everything below is in `cimrobust`; what is not listed may change without notice.\n",
        *_kinds(),
    ]
    for name in cimrobust.__all__:
        thing = getattr(cimrobust, name)
        if name != "__version__":
            parts += _entry(name, thing)
    return "\n".join(parts)


def _kinds() -> Iterator[str]:
    """Yield what the short names of argument types stand for."""
    source = inspect.getsource(python_inputs)
    rows = [
        (f"`{name}`", f"`{' '.join(kind.split())}`", prose(text))
        for text, name, kind in _KIND.findall(source)
    ]
    yield "Types of arguments that take objects in place of paths:\n"
    yield table(("type", "stands for", "meaning"), rows)


def _entry(name: str, thing: Any) -> Iterator[str]:
    yield f"## `{name}`\n"
    if inspect.isfunction(thing):
        yield f"```python\n{_signature(name, thing)}\n```\n"
    yield _docstring(inspect.getdoc(thing) or "")
    if inspect.isclass(thing):
        if is_dataclass(thing) and "Attributes:" not in (thing.__doc__ or ""):
            yield _fields(thing)
        yield from _members(thing)


def _fields(model: type) -> str:
    """Return the fields of a settings model."""
    rows = [
        (
            f"`{setting.name}`",
            f"`{annotation_text(setting)}`",
            "required" if setting.default is MISSING else f"`{setting.default!r}`",
            prose(setting_text(setting)),
        )
        for setting in described(model)
    ]
    return table(("setting", "type", "default", "meaning"), rows)


def _members(kind: type) -> Iterator[str]:
    members = {name: member for name, member in vars(kind).items() if _is_shown(member)}
    if any(not name.startswith("_") for name in members):
        yield "**Properties and methods**\n"
    for name, member in members.items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            yield f"- `{name}`: {prose(_first(member))}"
        elif isinstance(member, classmethod) or inspect.isfunction(member):
            function = member.__func__ if isinstance(member, classmethod) else member
            yield f"- `{_signature(name, function, method=True)}`: {prose(_first(function))}"
    yield ""


def _is_shown(member: Any) -> bool:
    return isinstance(member, property | classmethod) or inspect.isfunction(member)


def _first(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ")


def _signature(name: str, function: Any, *, method: bool = False) -> str:
    parameters = list(inspect.signature(function).parameters.values())[1 if method else 0 :]
    words: list[str] = []
    starred = False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            words.append("*")
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        words.append(f"{parameter.name}: {parameter.annotation}{default}")
    back = inspect.signature(function).return_annotation
    line = f"{name}({', '.join(words)}) -> {back}"
    return (
        line
        if len(line) <= 90
        else f"{name}(\n" + "".join(f"    {word},\n" for word in words) + f") -> {back}"
    )


def _docstring(text: str) -> str:
    """Return a docstring of Google style as Markdown."""
    lines: list[str] = []
    section = ""
    for line in text.splitlines():
        found = _SECTION.match(line)
        if found:
            section = found[1]
            lines += [f"**{'Arguments' if section == 'Args' else section}**", ""]
        elif section and line.startswith("    ") and section != "Returns":
            entry = re.match(r"^    (\w+): (.*)$", line)
            lines.append(f"- `{entry[1]}`: {entry[2]}" if entry else f"  {line.strip()}")
        else:
            lines.append(line.removeprefix("    ") if section else line)
    return prose("\n".join(lines)) + "\n"
