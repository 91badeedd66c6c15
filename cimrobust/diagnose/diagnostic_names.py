"""Which diagnostics there are to choose from; imports nothing that runs them."""

from __future__ import annotations

from cimrobust.errors import UsageError

#: All diagnostics, in the order of `diagnostic_catalogue.DIAGNOSTICS`.
NAMES = (
    "layers",
    "classes",
    "safety_class",
    "transfer",
    "tolerance_curve",
    "fragile_inputs",
    "stuck_devices",
    "write_verify",
)
#: Those that may be chosen; a class that must hold is asked for by its own option.
OPTIONAL = tuple(name for name in NAMES if name != "safety_class")

#: What a certificate says of the others.
NOT_CHOSEN = "not asked for (--diagnostics)"

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
    asked = DEFAULT[effort] if names is None else names
    if asked == "none":
        return ()
    if asked == "all":
        return OPTIONAL
    wanted = [name.strip() for name in asked.split(",")]
    unknown = [name for name in wanted if name not in OPTIONAL]
    if unknown:
        raise UsageError(
            f"diagnostics must be all, none or some of {', '.join(OPTIONAL)}, got '{unknown[0]}'"
            " (--diagnostics); separate names by commas"
        )
    return tuple(name for name in OPTIONAL if name in wanted)
