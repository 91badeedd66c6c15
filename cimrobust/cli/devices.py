"""`cimrobust devices`: the device profiles that are shipped, and checks of one's own."""

from __future__ import annotations

import json

import click

from cimrobust.cli.options import json_option


@click.group("devices")
def command() -> None:
    """List, show and check device profiles."""


@command.command("list", epilog="Example: cimrobust devices list")
@json_option
def list_command(as_json: bool) -> None:
    """List the profiles that are shipped."""
    from cimrobust.device.load import list_profiles, load_profile

    profiles = [load_profile(name) for name in list_profiles()]
    if as_json:
        click.echo(json.dumps([profile.to_dict() for profile in profiles], indent=2))
        return
    width = max(len(profile.name) for profile in profiles)
    for profile in profiles:
        click.echo(f"{profile.name:<{width}}  {profile.source}")


@command.command("show", epilog="Example: cimrobust devices show rram-write-verify-3pct")
@click.argument("profile")
def show_command(profile: str) -> None:
    """Print PROFILE in full, with every default that it uses, as JSON."""
    from cimrobust.device.load import load_profile

    click.echo(json.dumps(load_profile(profile).to_dict(), indent=2))


@command.command("check", epilog="Example: cimrobust devices check my-profile.toml")
@click.argument("profile")
def check_command(profile: str) -> None:
    """Check the file PROFILE and say what it means, or everything that is wrong with it."""
    from cimrobust.device.load import load_profile

    checked = load_profile(profile)
    click.echo(
        f"{checked.name}: valid; {checked.weight.bits}-bit weights ({checked.weight.mapping}, scale per {checked.weight.scale}) in "
        f"{checked.device.bits}-bit devices; a device stays within {100 * checked.tolerance_fraction():.3g} % of the conductance range "
        f"(probability left out: {checked.excluded_probability():.3g} a device)"
    )
