"""Whether a result states the machine that it was made on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from cimrobust.certificate.read_record import Version
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.engine.machine_record import Machine

# Results state the machine from these versions on.
_FIRST = {"certificate": Version(1, 5), "sweep": Version(1, 3)}


class Made(Protocol):
    """A result that states where it was made."""

    NAME: ClassVar[str]

    @property
    def stated_version(self) -> str:
        """Version of the format that it states."""

    @property
    def machine(self) -> Machine | None:
        """Processor and libraries; None: not stated."""

    @property
    def machine_reason(self) -> str | None:
        """Why not."""


def machine_stated(result: Made) -> ReplayCheck:
    """Check that the machine is stated by every result of a format that states it."""
    first = _FIRST[result.NAME]
    if result.machine is None and Version.of(result.stated_version) >= first:
        return ReplayCheck(
            "machine",
            False,
            f"every {result.NAME} from schema {first} on states the machine, this one does not",
        )
    return ReplayCheck("machine", None, "not compared with this one")
