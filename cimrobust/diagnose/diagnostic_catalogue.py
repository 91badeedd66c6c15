"""The diagnostics there are, in the order in which they run.

Later ones may use the patterns of earlier ones.

To add one: a module with a `Diagnostic`, a line here and in `diagnostic_names.py`, a model and a
field of `Diagnostics` in `certificate/models`, a line in `certificate/blocks/diagnostics.py`, and a
template `report/templates/diagnostics/<name>.html.j2`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.device_level.stuck import STUCK_DEVICES
from cimrobust.device_level.write_verify import WRITE_VERIFY
from cimrobust.diagnose.classes import CLASSES
from cimrobust.diagnose.fragile_inputs import FRAGILE_INPUTS
from cimrobust.diagnose.fragile_layers import LAYERS
from cimrobust.diagnose.safety_class import SAFETY_CLASS
from cimrobust.diagnose.sample_transfer import TRANSFER
from cimrobust.diagnose.tolerance_curve import TOLERANCE_CURVE

if TYPE_CHECKING:
    from cimrobust.attack.diagnosis_protocol import Diagnostic

DIAGNOSTICS: tuple[Diagnostic, ...] = (
    LAYERS,
    CLASSES,
    SAFETY_CLASS,
    TRANSFER,
    TOLERANCE_CURVE,
    FRAGILE_INPUTS,
    STUCK_DEVICES,
    WRITE_VERIFY,
)
