"""Which devices are worth verifying more tightly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.certificate import models
from cimrobust.records import finite

if TYPE_CHECKING:
    from cimrobust.device_level.verification import Verification

_WRITE_MODEL = (
    "Assumed: every write misses its target by an independent Gaussian until one lies within the"
    " tolerance t, so that a device takes 1 / erf(t / (sigma sqrt 2)) writes on average,"
    " proportional to sigma / t for small t."
)


def write_verify(found: Verification) -> models.WriteVerify:
    """Describe what verifying some devices more tightly buys."""
    return models.WriteVerify(
        base=finite(found.base.value),
        rows=found.rows,
        best=found.best,
        factor=found.factor,
        writes_without=found.writes[0],
        writes_verified=found.writes[1],
        write_sigma=found.write_sigma,
        write_model=_WRITE_MODEL,
        draws=found.draws,
        crafting_samples=found.crafting_samples,
    )
