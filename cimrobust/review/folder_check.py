"""A folder of results against its manifest."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cimrobust.certificate.manifest import (
    MANIFEST,
    manifest_problems,
    read_manifest,
    unsafe_entries,
)
from cimrobust.input_file import printable
from cimrobust.review.replay_check import ReplayCheck

_MOST_NAMED = 3


def folder_check(directory: Path, needed: Collection[str], *, may_lack: bool) -> ReplayCheck:
    """Compare every file with the digest that the folder's manifest states.

    A file that somebody added refutes nothing.

    Args:
        directory: Folder of results.
        needed: Files that the manifest must list.
        may_lack: Whether the results were made before folders had a manifest.
    """
    if not (directory / MANIFEST).exists():
        links = unsafe_entries(directory)
        if links:
            return ReplayCheck(
                "manifest", False, f"no plain files below the folder: {_named(links)}"
            )
        made = ": made by an earlier version" if may_lack else ""
        return ReplayCheck("manifest", None if may_lack else False, f"there is no {MANIFEST}{made}")
    problems = [str(problem) for problem in manifest_problems(directory) if problem.kind != "extra"]
    missing = sorted(set(needed) - {file.path for file in read_manifest(directory).files})
    if problems or missing:
        listed = [
            *problems[:_MOST_NAMED],
            *(f"{printable(name)[:100]} is not listed" for name in missing[:_MOST_NAMED]),
        ]
        return ReplayCheck("manifest", False, "; ".join(listed))
    return ReplayCheck("manifest", True, f"every file has the digest that {MANIFEST} states")


def _named(paths: list[str]) -> str:
    return ", ".join(printable(path)[:100] for path in paths[:_MOST_NAMED])
