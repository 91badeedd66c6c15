"""The table of lowered operators, for the docs."""

from __future__ import annotations

import sys
from collections import defaultdict

from cimrobust.onnx_io.lowering import lowering_catalogue  # noqa: F401  (registers the lowerings)
from cimrobust.onnx_io.lowering.lowering_registry import ENTRIES


def markdown_table() -> str:
    """Return two Markdown tables: operators read as standard ones, then operators refused."""
    lowered = sorted(
        (entry for entry in ENTRIES.values() if entry.make is not None),
        key=lambda entry: entry.operator,
    )
    rows = [
        f"| `{entry.operator}`{f' before {entry.before}' if entry.before else ''} |"
        f" {entry.becomes.rstrip('.')} |"
        for entry in lowered
    ]
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for entry in ENTRIES.values():
        if entry.make is None:
            reasons[entry.becomes].append(entry.operator)
    refused = [
        f"| {', '.join(f'`{name}`' for name in sorted(names))} | {why} |"
        for why, names in reasons.items()
    ]
    return "\n".join(
        [
            (
                "| operator, and the operator set before which it is read so | standard operators"
                " that take its place |"
            ),
            "|---|---|",
            *rows,
            "",
            "| refused | why |",
            "|---|---|",
            *refused,
            "",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(markdown_table())
