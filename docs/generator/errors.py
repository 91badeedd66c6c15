"""Exit codes, and every message that ends a command."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import cimrobust
from cimrobust.errors import EXIT_CODES, CimrobustError
from generator.markdown import prose, table

PACKAGE = Path(cimrobust.__file__).parent
#: Files whose ValueErrors become sentences about the keys of a settings file.
SETTINGS = (
    "certificate/policy.py",
    "data/description.py",
    "device/table_types.py",
    "device/window.py",
    "device/curve.py",
    "device/core_tables.py",
    "device/converter_tables.py",
    "device/effect_tables.py",
    "device/profile_keys.py",
)

INTRODUCTION = """\
A command that fails prints one line, `error: <thing> must <rule>, got <value> (<where>);
<what to do>`, and ends with one of these codes. In Python the same line is the text of an
exception, whose `exit_code` is the code. An internal error prints its traceback if
`CIMROBUST_DEBUG=1` is set.
"""


def page() -> str:
    """Return the page of errors."""
    parts = ["# Errors and exit codes\n", INTRODUCTION]
    parts += [
        "## Exit codes\n",
        table(("code", "meaning"), [(str(code), meaning) for code, meaning in EXIT_CODES.items()]),
    ]
    kinds = [CimrobustError, *CimrobustError.__subclasses__()]
    kinds = sorted(
        (kind for kind in kinds if kind.__module__ == "cimrobust.errors"),
        key=lambda kind: kind.exit_code,
    )
    rows = [
        (f"`{kind.__name__}`", str(kind.exit_code), prose((kind.__doc__ or "").partition("\n")[0]))
        for kind in kinds
    ]
    parts += [
        "## Exceptions\n",
        "All are in `cimrobust.errors`.\n",
        table(("exception", "exit code", "when"), rows),
    ]
    parts += [
        "## Messages\n",
        "In braces: what a message fills in. The module is where to look for the reason.\n",
    ]
    messages = list(_messages())
    for kind in kinds:
        found = [(module, text) for module, name, text in messages if name == kind.__name__]
        if found:
            parts += [f"### `{kind.__name__}`, exit code {kind.exit_code}\n", _message_table(found)]
    wrong = [
        (module, text)
        for module, name, text in messages
        if name == "ValueError" and module in _modules(SETTINGS)
    ]
    parts += [
        "### In settings files, exit code 2\n",
        "Behind the key and before the value that was given.\n",
        _message_table(wrong),
    ]
    return "\n".join(parts)


def _modules(files: tuple[str, ...]) -> set[str]:
    return {file.removesuffix(".py").replace("/", ".") for file in files}


def _message_table(found: list[tuple[str, str]]) -> str:
    return table(
        ("module", "message"),
        [(f"`{module}`", f"`` {text} ``") for module, text in dict.fromkeys(found)],
    )


def _messages() -> Iterator[tuple[str, str, str]]:
    """Yield module, exception name and text of every error that is raised with its own text."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Raise)
                and isinstance(node.exc, ast.Call)
                and isinstance(node.exc.func, ast.Name)
                and node.exc.args
            ):
                text = _text(node.exc.args[0])
                if text.strip("{}…"):
                    yield module, node.exc.func.id, text


def _text(node: ast.expr) -> str:
    """Return a text with the names of what it fills in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    inside = node.value if isinstance(node, ast.FormattedValue) else node
    if isinstance(inside, ast.Name):
        return f"{{{inside.id}}}"
    return f"{{{inside.attr}}}" if isinstance(inside, ast.Attribute) else "{…}"
