"""`--open`: the page that a command wrote, in the user's browser."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

open_flag = click.option(
    "--open", "is_opened", is_flag=True, help="Show the page in the browser once it is written."
)


def open_option(page: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option that shows a page of the folder of --out.

    Args:
        page: File name of the page.
    """

    def with_option(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(*arguments: Any, is_opened: bool, **given: Any) -> Any:
            result = function(*arguments, **given)
            if is_opened:
                show_page(Path(given["out"]) / page)
            return result

        return open_flag(command)

    return with_option


def show_page(page: Path) -> None:
    """Show a page in the browser; where there is none, say so: the work is done all the same."""
    import webbrowser

    address = page.resolve().as_uri()
    try:
        is_shown = webbrowser.open(address)
    except webbrowser.Error:
        is_shown = False
    if not is_shown:
        click.echo(f"no browser was found here (--open); open {address} in one", err=True)
