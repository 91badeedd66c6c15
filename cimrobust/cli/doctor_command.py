"""`cimrobust doctor`: what is installed, whether it works, and what will be slow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import json_option

if TYPE_CHECKING:
    from cimrobust.engine.installation_records import Installation


@click.command(
    "doctor", cls=ExampleCommand, examples=("cimrobust doctor", "cimrobust doctor --json")
)
@json_option
def command(as_json: bool) -> None:
    """Show what is installed, the machine, and what will be slow on it.

    Exit code 2: something that is required is missing or computes wrong numbers.
    """
    from cimrobust.engine.installation import doctor
    from cimrobust.errors import UsageError

    found = doctor()
    if as_json:
        from cimrobust.certificate.models.printed_installation import DoctorOutput

        click.echo(DoctorOutput.model_validate(dict(found)).model_dump_json(indent=2))
    else:
        _print(found)
    if found.problems:
        raise UsageError("; ".join(found.problems))


def _print(found: Installation) -> None:
    machine = found.machine
    sets = machine.instruction_sets
    for name, value in (
        ("cimrobust", f"{found.version}, Python {found.python}, {machine.operating_system}"),
        ("processor", machine.processor or machine.architecture),
        ("instructions", "not stated by the system" if sets is None else ", ".join(sets)),
        ("kernel", ", ".join(found.kernel_instructions)),
        ("processors", str(found.processors)),
        ("memory", f"{found.memory_bytes / 2**30:.1f} GiB free"),
        ("GPU", found.gpu or f"none: {found.gpu_reason}"),
        ("onnxruntime", ", ".join(found.providers)),
    ):
        click.echo(f"{name:<14}{value}")
    click.echo("\nlibraries")
    for library in found.libraries:
        mark = "" if library.is_accepted else f"  must be {library.required or 'installed'}"
        click.echo(f"  {library.name:<16}{library.installed or 'none'}{mark}")
    click.echo("\nextras")
    for extra in found.extras:
        state = "yes" if extra.is_installed else f"pip install 'cimrobust[{extra.name}]'"
        click.echo(f"  {extra.name:<16}{extra.purpose}: {state}")
    if found.slow:
        click.echo("\nwill be slow")
        for note in found.slow:
            click.echo(f"  {note}")
