"""The diagnostics there are, in the order in which they run.

Later ones may use the patterns of earlier ones.

To add one: a module with a `Diagnostic`, a line here, a model and a field of `Diagnostics` in
`certificate/models`, a line in `certificate/blocks/diagnostics.py`, and a template
`report/templates/diagnostics/<name>.html.j2`.
"""

from __future__ import annotations

from cimrobust.attack.diagnosis_protocol import Diagnostic
from cimrobust.device_level.stuck import STUCK_DEVICES
from cimrobust.device_level.write_verify import WRITE_VERIFY
from cimrobust.diagnose.classes import CLASSES
from cimrobust.diagnose.fragile_inputs import FRAGILE_INPUTS
from cimrobust.diagnose.fragile_layers import LAYERS
from cimrobust.diagnose.safety_class import SAFETY_CLASS
from cimrobust.diagnose.sample_transfer import TRANSFER
from cimrobust.diagnose.tolerance_curve import TOLERANCE_CURVE
from cimrobust.errors import UsageError

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

#: What runs if nothing is said, by effort.
DEFAULT = {"quick": "none", "standard": "all", "thorough": "all"}


def chosen(names: str | None, *, effort: str) -> tuple[str, ...]:
    """Return the names of the diagnostics to run.

    Args:
        names: ``all``, ``none``, or names separated by commas; None: none at effort quick, all at
            others.
        effort: Level of effort.

    Raises:
        UsageError: There is no such diagnostic.
    """
    optional = [diagnostic.name for diagnostic in DIAGNOSTICS if diagnostic.is_optional]
    asked = DEFAULT[effort] if names is None else names
    if asked == "none":
        return ()
    if asked == "all":
        return tuple(optional)
    wanted = [name.strip() for name in asked.split(",")]
    unknown = [name for name in wanted if name not in optional]
    if unknown:
        raise UsageError(
            f"diagnostics must be all, none or some of {', '.join(optional)}, got '{unknown[0]}'"
            " (--diagnostics); separate names by commas"
        )
    return tuple(name for name in optional if name in wanted)
