"""How help looks: examples one a line, ready to copy, and commands in groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click


class _WithExamples(click.Command):
    """What has examples at the end of its help."""

    def __init__(self, *arguments: Any, examples: Sequence[str], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, then what else stands at the end."""
        write_examples(formatter, self.examples)
        super().format_epilog(ctx, formatter)


class ExampleCommand(_WithExamples):
    """A command with examples at the end of its help."""


class ExampleGroup(_WithExamples, click.Group):
    """A group of commands with examples at the end of its help."""


def write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    """Write a section of examples, each on one line that is never broken, ready to copy."""
    with formatter.section("Example" if len(examples) == 1 else "Examples"):
        for example in examples:
            formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def write_groups(
    formatter: click.HelpFormatter, groups: Iterable[tuple[str, Sequence[tuple[str, str]]]]
) -> None:
    """Write a section for every group of commands, with one column for all of their names.

    Args:
        formatter: Takes the text.
        groups: Title, and name and purpose of every command.
    """
    groups = list(groups)
    width = max(len(name) for _, commands in groups for name, _ in commands)
    for title, commands in groups:
        with formatter.section(title):
            formatter.write_dl([(name.ljust(width), purpose) for name, purpose in commands])
