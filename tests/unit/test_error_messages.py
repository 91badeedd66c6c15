"""Every message that the package raises is named by a test: its words, not its type alone.

A message counts as named where a string of a test (no docstring) has four words of one of its
literal parts in a row, or all words of a part of three. Parts end where a value is put in. Messages
without a part of three words, such as `'{key}' must ascend`, cannot be told apart and are left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_WORD = re.compile(r"[a-z0-9_]+")
_PATTERN = re.compile(r"\\[a-zA-Z]")
_RUN, _LEAST = 4, 3

#: Messages that no test can make, by words of theirs, each with the reason.
UNTESTED = {
    "a number is not known": "caught where it is raised: the size of a tensor stays unknown",
    "network must be deployed as the first time, with the batch axis": "nothing is known to make"
    " two openings of one file differ",
    "converters must be given for the products of the network": "needs a certificate with"
    " converters that is forged in its list of products alone",
}

Words = tuple[str, ...]


def words_of(text: str) -> Words:
    """Return the words of a text or regular expression, in lower case."""
    return tuple(_WORD.findall(_PATTERN.sub(" ", text).lower()))


def parts_of(node: ast.AST) -> Iterator[Words]:
    """Yield the words of every literal part below a node, without a last "got"."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            words = words_of(node.value)
            yield words[:-1] if words[-1:] == ("got",) else words
        return
    for child in ast.iter_child_nodes(node):
        yield from parts_of(child)


def runs_of(words: Words, length: int) -> Iterator[Words]:
    return (words[start : start + length] for start in range(len(words) - length + 1))


def runs_in_tests() -> dict[int, set[Words]]:
    """Return every three and every four words in a row of the strings of all tests."""
    found: dict[int, set[Words]] = {_LEAST: set(), _RUN: set()}
    for path in (ROOT / "tests").rglob("*.py"):
        if path == Path(__file__) or {"benchmarks", "golden"} & set(path.parts):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and id(node) not in docstrings:
                words = words_of(node.value) if isinstance(node.value, str) else ()
                for length, runs in found.items():
                    runs.update(runs_of(words, length))
    return found


def raised() -> Iterator[tuple[str, list[Words]]]:
    """Yield place and literal parts of three words or more of every message that is raised."""
    for path in sorted((ROOT / "cimrobust").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                parts = [words for words in parts_of(node.exc) if len(words) >= _LEAST]
                if parts:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", parts


def is_named(parts: list[Words], tested: dict[int, set[Words]]) -> bool:
    return any(
        run in tested[length]
        for words in parts
        if (length := min(_RUN, len(words)))
        for run in runs_of(words, length)
    )


def test_every_message_is_named_by_a_test() -> None:
    tested, excused = runs_in_tests(), {words_of(text) for text in UNTESTED}
    messages = list(raised())
    unnamed = [
        f"{place}: {' ... '.join(map(' '.join, parts))}"
        for place, parts in messages
        if not is_named(parts, tested) and not excused & set(parts)
    ]
    assert len(messages) > 600, "the messages are found"
    assert not unnamed, "no test has the words of:\n" + "\n".join(unnamed)
    used = {words for _place, parts in messages for words in parts}
    assert excused <= used, "an excuse is of a message that is there"


def test_a_message_is_named_by_its_words_alone() -> None:
    raises = ast.parse('raise UsageError(f"{name} must be one of the known, got {x}; choose one")')
    parts = [words for words in parts_of(raises) if len(words) >= _LEAST]
    assert parts == [("must", "be", "one", "of", "the", "known")]
    for text, named in (
        (r"must be one of the\w", True),
        ("must be one, of", True),
        ("one of", False),
    ):
        runs = {length: set(runs_of(words_of(text), length)) for length in (_LEAST, _RUN)}
        assert is_named(parts, runs) is named
