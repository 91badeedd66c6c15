"""What any result file says of itself.

The format that it follows, the tool that made it, the metric of its scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust import __version__
from cimrobust.certificate.blocks.item_block import metric_named
from cimrobust.certificate.read_record import Version, read_plain
from cimrobust.certificate.schema_files import schema_file
from cimrobust.errors import UsageError
from cimrobust.input_file import printable
from cimrobust.json_file import parse_json
from cimrobust.review.reasons_check import reasons_check
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, Tool
    from cimrobust.certificate.models.result_file import ResultFile
    from cimrobust.certificate.models.retrained import Retraining
    from cimrobust.certificate.models.swept import SweepModel

    #: A result file with scores.
    Result = CertificateModel | SweepModel | Retraining

# Release, or a version that leads to one.
_VERSION = r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})(?:(?:a|b|rc|\.dev)\d{1,6})?"

#: The tool that a version of a format first appeared in; versions in between came with the same
#: tool.
_FIRST_TOOL = {
    "certificate": {"1.0": "0.1.0", "1.5": "0.2.0", "1.6": "0.3.0"},
    "sweep": {"1.0": "0.1.0", "1.2": "0.2.0", "1.3": "0.3.0"},
    "retrain": {"1.0": "0.1.0", "1.4": "0.2.0", "1.5": "0.4.0"},
}


_OTHER_VERSION = (
    "it states another version of the tool or the format than this one's, so it is not held to what"
    " every run of today has: all self-checks, members and passes of its effort, intervals,"
    " settings, command and wording. A policy can ask for the tool ([conditions] tool)"
)


def is_of_today(record: ResultFile, tool: Tool) -> bool:
    """Return whether a file was made by this version of the tool in the format of today.

    Then every sentence must be the same.
    """
    return tool.version == __version__ and record.stated_version == record.VERSION


def record_checks(path: Path, record: Result) -> Iterator[ReplayCheck]:
    """Check format, tool and metric of a result file.

    Args:
        path: The file.
        record: What it holds.
    """
    yield _schema_check(path, record)
    yield _tool_check(record, record.tool)
    if not is_of_today(record, record.tool):
        yield ReplayCheck("other_version", None, _OTHER_VERSION)
    yield reasons_check(record)
    wanted = metric_named(record.metric.name)
    wrong = wanted is None or (wanted.higher_is_better, wanted.unit) != (
        record.metric.higher_is_better,
        record.metric.unit,
    )
    wrong = wrong or (is_of_today(record, record.tool) and wanted != record.metric)
    better = "higher" if record.metric.higher_is_better else "lower"
    yield ReplayCheck(
        "metric",
        not wrong,
        f"{printable(record.metric.name)[:40]}, {better} is better, unit"
        f" {printable(record.metric.unit)[:40]}",
    )


def _schema_check(path: Path, record: ResultFile) -> ReplayCheck:
    """Check that a file that states an older version has exactly what files of that version had.

    No version may be stated to leave checks out.
    """
    if record.stated_version == record.VERSION:
        return ReplayCheck("schema", True, f"{path.name} follows schema {record.stated_version}")
    plain = read_plain(path, type(record), hint="make it again")
    stated = str(plain["schema_version"])
    try:
        published = parse_json(schema_file(record.NAME, stated).read_bytes())
    except UsageError:
        return ReplayCheck(
            "schema",
            False,
            f"there never was a version {printable(stated)} of the {record.NAME} format",
        )
    # Files of today need no schema but their model, and jsonschema brings grammars that take
    # seconds to load where its extras are installed.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    error = next(iter(Draft202012Validator(published).iter_errors(plain)), None)
    if error is not None:
        return ReplayCheck(
            "schema",
            False,
            f"files of schema {stated} never looked so: {printable(error.message)[:160]} at"
            f" {printable(error.json_path)[:80]}",
        )
    return ReplayCheck("schema", True, f"{path.name} follows schema {record.stated_version}")


def _tool_check(record: ResultFile, tool: Tool) -> ReplayCheck:
    """Check that the named tool can have written the format.

    Otherwise another version could be named to leave checks out.
    """
    made, here = release_of(tool.version), release_of(__version__)
    shown = (
        f"{printable(tool.name)[:40]} {printable(tool.version)[:40]}, schema"
        f" {record.stated_version}"
    )
    if tool.name != "cimrobust" or made is None or here is None:
        return ReplayCheck("tool", False, f"no tool that writes such files: {shown}")
    stated = Version.of(record.stated_version)
    firsts = {
        Version.of(version): release_of(first) or here
        for version, first in _FIRST_TOOL[record.NAME].items()
    }
    earliest = max(first for version, first in firsts.items() if version <= stated)
    later = [first for version, first in firsts.items() if version > stated and first > earliest]
    # A tool in development writes the format of its next release.
    too_early = made < earliest and not (made == here and stated == Version.of(record.VERSION))
    if too_early or (later and made >= min(later)):
        return ReplayCheck(
            "tool",
            False,
            f"that version of the tool never wrote this version of the format: {shown}",
        )
    if made > here:
        return ReplayCheck(
            "tool", None, f"made by a later version than this one, {__version__}: {shown}"
        )
    return ReplayCheck("tool", True, shown)


def release_of(text: str) -> tuple[int, ...] | None:
    """Return the numbers of a version of the tool; None where it is no such version."""
    # No other form: a version beside the one that it looks like would not be held to its words.
    found = re.fullmatch(_VERSION, text, re.ASCII)
    return None if found is None else tuple(int(part) for part in found.groups())
