"""Where the defaults of a project are: kept apart, because every command looks for them."""

from __future__ import annotations

from pathlib import Path

NAME = "cimrobust.toml"


def project_file(start: Path) -> Path | None:
    """Return the nearest `cimrobust.toml` from a folder upwards; None: there is none.

    It looks no further up than the folder of the repository, and outside of one in `start` alone:
    a file that somebody left in a shared folder above sets nothing.
    """
    within = [start]
    for folder in (start, *start.parents):
        if (folder / ".git").exists():
            within = [start, *(above for above in start.parents if above.is_relative_to(folder))]
            break
    return next((folder / NAME for folder in within if (folder / NAME).is_file()), None)
