"""`cimrobust devices`: the device profiles that are shipped, and checks of one's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cimrobust.cli.command_help import ExampleCommand, ExampleGroup
from cimrobust.cli.options import json_option
from cimrobust.cli.setting_options import NUMBER
from cimrobust.device.distribution import excluded_probability
from cimrobust.device.intervals import level_bounds, tolerance_fraction

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile


@click.group(
    "devices",
    cls=ExampleGroup,
    examples=("cimrobust devices list", "cimrobust devices show rram-write-verify-3pct --levels"),
)
def command() -> None:
    """List, show, check and fit device profiles."""


@command.command("list", cls=ExampleCommand, examples=("cimrobust devices list",))
@json_option
def list_command(as_json: bool) -> None:
    """List the profiles that are shipped."""
    from cimrobust.device.load_profile import list_profiles, load_profile

    profiles = [load_profile(name) for name in list_profiles()]
    if as_json:
        click.echo(json.dumps([profile.to_dict() for profile in profiles], indent=2))
        return
    rows = [
        (
            profile.name,
            f"{profile.weight.bits}/{profile.device.bits}",
            f"{100 * tolerance_fraction(profile):.3g} %",
            _effects(profile),
            profile.source,
        )
        for profile in profiles
    ]
    _print_table("Shipped device profiles", ("name", "bits", "box", "effects", "source"), rows)
    click.echo(
        "bits: of a weight / of a device; box: largest deviation of a device that the tolerance box"
        " holds, share of the conductance range"
    )


@command.command(
    "show", cls=ExampleCommand, examples=("cimrobust devices show rram-write-verify-3pct",)
)
@click.argument("profile")
@click.option(
    "--levels", is_flag=True, help="Print the box and the spread of every level as a table instead."
)
@json_option
def show_command(profile: str, levels: bool, as_json: bool) -> None:
    """Print PROFILE in full, with every default that it uses, as JSON."""
    from cimrobust.device.load_profile import load_profile

    shown = load_profile(profile)
    if not levels:
        click.echo(json.dumps(shown.to_dict(), indent=2))
        return
    top = shown.device.num_levels - 1
    low, high = level_bounds(shown)
    positions = shown.level_positions()
    reads = shown.read_sigma_levels() / top
    if as_json:
        plain = [
            {
                "level": level,
                "conductance": float(positions[level]),
                "lowest": float(low[level]) / top,
                "highest": float(high[level]) / top,
                "read_noise": float(reads[level]),
            }
            for level in range(top + 1)
        ]
        click.echo(json.dumps(plain, indent=2))
        return
    rows = [
        (
            str(level),
            f"{positions[level]:.4f}",
            *(f"{100 * value:+.3f} %" for value in (low[level] / top, high[level] / top)),
            f"{100 * reads[level]:.3f} %",
        )
        for level in range(top + 1)
    ]
    _print_table(
        f"Levels of {shown.name}", ("level", "conductance", "lowest", "highest", "read noise"), rows
    )


@command.command(
    "fit",
    short_help="Make a profile from measurements.",
    cls=ExampleCommand,
    examples=("cimrobust devices fit measurements.csv -o my-device.toml --plot my-device.svg",),
)
@click.argument("measurements", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Profile file to write, .toml.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="Picture of measurements and profile to write, .svg or .png.",
)
@click.option(
    "--form",
    type=click.Choice(["table", "curve"]),
    default="table",
    show_default=True,
    help="Quantile tables level by level, or a curve for sigma.",
)
@click.option(
    "--bits",
    type=click.IntRange(1, 8),
    help="Bits a device stores; default: as many as there are targets, rounded up.",
)
@click.option(
    "--target-column",
    default="target",
    show_default=True,
    help="Column of the conductances asked for.",
)
@click.option(
    "--measured-column",
    default="measured",
    show_default=True,
    help="Column of the conductances measured.",
)
@click.option(
    "--g-min",
    type=NUMBER,
    help="Lowest conductance of the range, microsiemens; default: the smallest target.",
)
@click.option(
    "--g-max",
    type=NUMBER,
    help="Highest conductance of the range, microsiemens; default: the largest target.",
)
@click.option(
    "--relative",
    is_flag=True,
    help="Conductances are normalised: 0 is the lowest of the range, 1 the highest.",
)
@click.option("--name", help="Name of the profile; default: that of the file.")
@click.option(
    "--source", help="Where the measurements come from; default: name and digest of the CSV file."
)
@json_option
def fit_command(measurements: Path, as_json: bool, **options: Any) -> None:
    """Make a device profile from MEASUREMENTS, a CSV file with one device a row.

    The conductance asked for and the one measured.

    As a table, every level draws from what was measured around it, and the tolerance box reaches to
    the smallest and largest measured deviation. As a curve, deviations are Gaussian with a sigma
    that is a polynomial in the conductance, and the box is 3 sigmas wide.
    """
    from cimrobust.device.fitted_profile import fit_profile

    fitted = fit_profile(measurements, **options).to_dict()
    if as_json:
        click.echo(json.dumps(fitted, indent=2))
        return
    rows = [
        (
            f"{target['target']:.4f}",
            f"{target['devices']:,}",
            *(f"{100 * target[key]:+.3f} %" for key in ("mean", "low", "high")),
            f"{100 * target['sd']:.3f} %",
            f"{target['distance']:.4f}"
            f"{' (!)' if target['distance'] > target['significant'] else ''}",
        )
        for target in fitted["targets"]
    ]
    _print_table(
        "Measured targets",
        ("target", "devices", "mean", "lowest", "highest", "sd", "distance"),
        rows,
    )
    click.echo(
        "distance: of measured and fitted distribution (Kolmogorov-Smirnov); (!) where chance"
        " explains it with less than 1 %"
    )
    click.echo(
        f"{fitted['name']}: {fitted['levels']} levels, box {100 * fitted['box_low']:+.3g} % to"
        f" {100 * fitted['box_high']:+.3g} % of the range; at most {fitted['left_out']:.2g} of the"
        " devices of a target lie outside"
    )
    for key in ("profile", "plot"):
        if fitted[key]:
            click.echo(f"written: {fitted[key]}")


@command.command(
    "check",
    short_help="Check a profile and say what it means.",
    cls=ExampleCommand,
    examples=("cimrobust devices check my-profile.toml",),
)
@click.argument("profile")
@json_option
def check_command(profile: str, as_json: bool) -> None:
    """Check the file PROFILE and say what it means, or everything that is wrong with it."""
    from cimrobust.device.load_profile import load_profile

    checked = load_profile(profile)
    if as_json:
        from cimrobust.certificate.models.printed_devices import CheckedRule, DevicesCheckOutput

        made = DevicesCheckOutput(
            name=checked.name,
            weight_bits=checked.weight.bits,
            mapping=checked.weight.mapping,
            scale=checked.weight.scale,
            device_bits=checked.device.bits,
            tolerance_fraction=tolerance_fraction(checked),
            excluded_probability=excluded_probability(checked),
            rules=[
                CheckedRule(rule=rule.named(index), meaning=_meaning(checked, index))
                for index, rule in enumerate(checked.rules)
            ],
        )
        click.echo(made.model_dump_json(indent=2))
        return
    click.echo(
        f"{checked.name}: valid; {checked.weight.bits}-bit weights ({checked.weight.mapping}, scale"
        f" per {checked.weight.scale}) in {checked.device.bits}-bit devices; a device stays within"
        f" {100 * tolerance_fraction(checked):.3g} % of the conductance range (probability left"
        f" out: {excluded_probability(checked):.3g} a device)"
    )
    for index, rule in enumerate(checked.rules):
        click.echo(f"{rule.named(index)}: {_meaning(checked, index)}")


def _meaning(profile: DeviceProfile, index: int) -> str:
    """Say in words what a rule makes of its layers."""
    if profile.rules[index].digital:
        return "digital, with the weights of the file"
    own = profile.of_rule(index)
    return (
        f"{own.weight.bits}-bit weights ({own.weight.mapping}, scale per {own.weight.scale}) in"
        f" {own.device.bits}-bit devices within {100 * tolerance_fraction(own):.3g} %, tiles of"
        f" {own.tile.rows} x {own.tile.columns}"
    )


def _effects(profile: DeviceProfile) -> str:
    """Say in words what a profile has besides programming errors."""
    tables = {
        "dac": "input converters",
        "adc": "output converters",
        "faults": "faults",
        "relaxation": "relaxation",
        "drift": "drift",
        "read_noise": "read noise",
    }
    return (
        ", ".join(text for table, text in tables.items() if getattr(profile, table) is not None)
        or "programming"
    )


def _print_table(title: str, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), box=box.SIMPLE, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
