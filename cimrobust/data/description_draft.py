"""A data description that is being found.

Its keys, what is said about them, and the file that both make.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cimrobust.data.decision import Decision, LabelReading


@dataclass(frozen=True)
class DraftInput:
    """What one graph input gets.

    Attributes:
        name: Its name.
        says: What the graph and the file say about it.
        array: Array of the data file; None: none fits.
        dtype: Element type.
        steps: Preprocessing.
        note: What could not be told; empty: nothing.
        options: Other lines that may be right, with the reason; written as comments.
    """

    name: str
    says: str
    array: str | None
    dtype: str
    steps: tuple[Mapping[str, Any], ...] = ()
    note: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Draft:
    """A description.

    Attributes:
        file: Data file, as the description names it; None: there is none yet.
        inputs: One for each graph input.
        label: Array of the labels; None: the model's own decisions.
        reading: How labels are coded.
        decision: How the output is read.
        notes: What could and could not be told, by table: ``file``, ``label``, ``decision``.
        has_stored_outputs: The file is a folder of test data, whose outputs are judged against.
    """

    file: str | None
    inputs: tuple[DraftInput, ...]
    label: str | None
    reading: LabelReading = field(default_factory=LabelReading)
    decision: Decision = field(default_factory=Decision)
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    has_stored_outputs: bool = False

    def render(self) -> str:
        """Return the file."""
        lines = ["schema = 1", *self._file()]
        for entry in self.inputs:
            lines += ["", *_input(entry)]
        lines += ["", *self._label(), "", *self._decision()]
        return "\n".join(lines) + "\n"

    def _comments(self, table: str) -> list[str]:
        return [f"# {line}" for note in self.notes.get(table, ()) for line in wrapped(note)]

    def _file(self) -> list[str]:
        return [*self._comments("file"), f"file = {toml(self.file or 'data.npz')}"]

    def _label(self) -> list[str]:
        lines = ["[label]", *self._comments("label")]
        if self.has_stored_outputs:
            return [*lines, 'array = "y"  # in a folder of test data: the stored outputs']
        if self.label is None:
            return [*lines, "self = true"]
        lines.append(f"array = {toml(self.label)}")
        reading = self.reading
        if reading.classes is not None:
            lines.append(f"classes = {toml(list(reading.classes))}")
        if reading.first is not None:
            lines.append(f"first = {reading.first}")
        if reading.ignore:
            lines.append(
                "ignore ="
                f" {toml(list(reading.ignore) if len(reading.ignore) > 1 else reading.ignore[0])}"
            )
        return lines

    def _decision(self) -> list[str]:
        decision = self.decision
        lines = ["[decision]", *self._comments("decision")]
        if decision.output is not None:
            lines.append(f"output = {toml(decision.output)}")
        lines.append(f"read = {toml(decision.read)}")
        if decision.threshold is not None:
            value = (
                list(decision.threshold)
                if isinstance(decision.threshold, tuple)
                else decision.threshold
            )
            lines.append(f"value = {toml(value)}")
        if decision.axis is not None:
            lines.append(f"axis = {decision.axis}")
        if decision.read == "topk":
            lines.append(f"k = {decision.k}")
        return [*lines, f"metric = {toml(decision.metric)}"]


def _input(entry: DraftInput) -> list[str]:
    lines = [
        "[[input]]",
        *(f"# {line}" for line in wrapped(entry.says)),
        f"name = {toml(entry.name)}",
    ]
    lines += [f"# {line}" for line in wrapped(entry.note)] if entry.note else []
    if entry.array is None:
        lines += ['# array = "..."  # or, for an input that is the same in every run: value = ...']
    else:
        lines.append(f"array = {toml(entry.array)}")
    lines.append(f"dtype = {toml(entry.dtype)}")
    if entry.steps:
        lines.append(f"steps = {toml(list(entry.steps))}")
    return lines + [f"# {line}" for option in entry.options for line in wrapped(option)]


def wrapped(text: str, width: int = 110) -> list[str]:
    """Return a sentence as lines; TOML itself, which begins with a key, is left in one."""
    if text.startswith(("steps = ", "axis = ", "value = ", "classes = ")):
        return [text]
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line] if line else lines


def toml(value: Any) -> str:
    """Return a value as TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
