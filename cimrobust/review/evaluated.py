"""What a replay asks of any result file about a network on evaluation data.

A certificate, or a sweep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cimrobust.certificate.models import Data, Device, Metric, Model, Setting, Tool


class Evaluated(Protocol):
    """A result file about a network on evaluation data."""

    @property
    def tool(self) -> Tool:
        """What made it."""

    @property
    def metric(self) -> Metric:
        """What a score is."""

    @property
    def model(self) -> Model:
        """The network."""

    @property
    def data(self) -> Data:
        """The evaluation data."""

    @property
    def device(self) -> Device:
        """The devices."""

    @property
    def settings(self) -> list[Setting]:
        """Every setting of the run."""
