"""What `doctor` prints with `--json`."""

from __future__ import annotations

from cimrobust.certificate.models.printed_base import Printed
from cimrobust.engine.installation_records import Installation


class DoctorOutput(Installation, Printed):
    """What `doctor` prints with `--json`: what is installed, and the machine."""

    NAME = "doctor-output"
