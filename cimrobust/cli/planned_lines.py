"""A plan as the command line shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from cimrobust.planning.planning_records import duration

if TYPE_CHECKING:
    from cimrobust.planning.planning_records import PlannedRun, PlannedStage


def show_plan(planned: PlannedRun, *, err: bool) -> None:
    """Print what an analysis is expected to take.

    Args:
        planned: The plan.
        err: Print to stderr.
    """
    for line in lines(planned):
        click.echo(line, err=err)


def lines(planned: PlannedRun) -> Iterator[str]:
    """Yield the lines of a plan."""
    yield (
        f"plan: about {duration(planned.expected_seconds)} (at most about"
        f" {duration(planned.most_seconds)}), {planned.memory_bytes / 1e9:.1f} GB of"
        f" {planned.free_bytes / 1e9:.1f} GB free; {planned.workers} threads"
    )
    yield (
        f"  effort {planned.effort}: {planned.trials} chips on {planned.samples} samples; up to"
        f" {planned.passes} passes on {planned.attack_samples} samples, about"
        f" {planned.expected_passes} expected"
    )
    for stage in planned.stages:
        yield f"  {stage.stage:<14}{duration(stage.seconds):>9}  {_memory(stage):>8}  {stage.note}"
    if planned.memory_bytes > planned.free_bytes:
        yield (
            "  memory may run short: fewer --workers need less, and stages work in smaller parts"
            " where they can"
        )
    yield f"  the same anywhere: {' '.join(planned.options)}"
    yield "  an estimate from counts and a second of measurement; a factor of two is usual"


def _memory(stage: PlannedStage) -> str:
    return "-" if stage.memory_bytes is None else f"{stage.memory_bytes / 1e9:.1f} GB"
