"""Tables that show how data were understood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_data(data: Mapping[str, Any]) -> None:
    """Print what `Understanding.to_dict` returns."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    for table in (
        _facts(data),
        *([_histogram(data)] if data["histogram"] else []),
        _rows(data["rows"]),
    ):
        console.print(table)
    for warning in data["warnings"]:
        click.echo(f"warning: {warning}")


def _facts(data: Mapping[str, Any]) -> Table:
    table = Table(
        title=f"Data: {escape(data['description'])}",
        box=box.SIMPLE,
        title_justify="left",
        show_header=False,
    )
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    samples, labels, decision = data["samples"], data["labels"], data["decision"]
    left_out = (
        f"; {samples['ignored']} without a label that is counted left out"
        if samples["ignored"]
        else ""
    )
    table.add_row("samples", f"{samples['used']:,} used of {samples['available']:,}{left_out}")
    for entry in (*data["inputs"], *data["constants"]):
        ends = "" if entry["least"] is None else f", {entry['least']:g} to {entry['most']:g}"
        table.add_row(
            f"input {escape(entry['name'])}",
            f"{entry['dtype']} {entry['shape']}{ends}".replace("[", "\\["),
        )
    table.add_row("labels", escape(_labels(labels)))
    table.add_row("decision", escape(_decision(decision)))
    ignored = (
        f"; {data['ignored_decisions']:,} are not counted" if data["ignored_decisions"] else ""
    )
    broken = f"; {data['broken']:,} have no valid output" if data["broken"] else ""
    table.add_row(
        "decisions",
        f"{data['decisions']:,}, {data['decisions_a_sample']:,} a sample{ignored}{broken}",
    )
    if data["classes"] is not None:
        table.add_row("classes", f"{data['classes']:,}")
    correct = (
        ""
        if data["clean"]["correct"] is None
        else f" ({data['clean']['correct']:,} of {data['decisions']:,})"
    )
    table.add_row(f"clean {data['clean']['metric']}", f"{data['clean']['score']:.6g}{correct}")
    return table


def _labels(labels: Mapping[str, Any]) -> str:
    source = {
        "self": "the model's own decisions",
        "stored": "decisions of the outputs stored with the samples",
        "indices": "decisions of another network",
    }.get(labels["source"], "given with the data")
    parts = [f"{source}, shape {labels['shape']}"]
    if labels["classes"] is not None:
        parts.append(f"classes in order {labels['classes']}")
    if labels["first"] is not None:
        parts.append(f"counted from {labels['first']}")
    if labels["ignore"]:
        parts.append(f"not counted: {labels['ignore']}")
    if labels["folders"] and labels["classes"] is None:
        parts.append("index of the sub-folder in the order of their names")
    return "; ".join(parts)


def _decision(decision: Mapping[str, Any]) -> str:
    text = f"{decision['read']} of output '{decision['output']}' of shape {decision['shape']}"
    if decision["k"] is not None:
        text += f", right where the label is among the {decision['k']} highest"
    if decision["axis"] is not None:
        text += f", classes along axis {decision['axis']}"
        text += f" (that of {decision['axis_reason']})" if decision["axis_reason"] else ""
    return text if decision["value"] is None else f"{text}, greater than {decision['value']}"


def _histogram(data: Mapping[str, Any]) -> Table:
    shown = data["histogram"]
    title = (
        "Labels"
        if len(shown) == data["classes"]
        else f"Labels: the {len(shown)} most frequent of {data['classes']} classes"
    )
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    for heading in ("class", "label", "count"):
        table.add_column(
            heading, justify="right" if heading != "label" else "left", overflow="fold"
        )
    for row in shown:
        table.add_row(str(row["class"]), escape(row["label"]), f"{row['count']:,}")
    return table


def _rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=f"First {len(rows)} decisions", box=box.SIMPLE, title_justify="left")
    headings = [key for key in (rows[0] if rows else {}) if key != "place"]
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(row, heading)) for heading in headings))
    return table


def _cell(row: Mapping[str, Any], heading: str) -> str:
    value = row[heading]
    if heading == "sample" and row["place"]:
        return f"{value} at {row['place']}"
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
