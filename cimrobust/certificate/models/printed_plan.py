"""What `plan` prints with `--json`."""

from __future__ import annotations

from cimrobust.certificate.models.printed_base import Printed
from cimrobust.planning.planning_records import PlannedRun


class PlanOutput(PlannedRun, Printed):
    """What `plan` prints with `--json`: what an analysis is expected to take."""

    NAME = "plan-output"
