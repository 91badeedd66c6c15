"""What single devices can do: stuck ones, and those worth verifying more tightly."""

from __future__ import annotations

from dataclasses import asdict

from cimrobust.certificate import models
from cimrobust.device_level.stuck import StuckBudget, StuckPoint
from cimrobust.device_level.verification import Verification
from cimrobust.records import finite

# Devices listed for the largest budget; the list of smaller ones is complete.
_LISTED = 100
_WRITE_MODEL = (
    "Assumed: every write misses its target by an independent Gaussian until one lies within the"
    " tolerance t, so that a device takes 1 / erf(t / (sigma sqrt 2)) writes on average,"
    " proportional to sigma / t for small t."
)


def stuck_devices(found: StuckBudget) -> models.StuckDevices:
    """Describe what few stuck devices can do."""
    return models.StuckDevices(
        curves=[
            models.StuckCurve(
                others=curve.others,
                base=finite(curve.base.value),
                points=[_point(point) for point in curve.points],
            )
            for curve in found.curves
        ],
        kinds=list(found.kinds),  # type: ignore[arg-type]  # checked by pydantic
        ranking=found.ranking,
        draws=found.draws,
        total_devices=found.total_devices,
        crafting_samples=found.crafting_samples,
    )


def write_verify(found: Verification) -> models.WriteVerify:
    """Describe what verifying some devices more tightly buys."""
    rows = [
        models.VerifyRow(
            **{**asdict(row), "score": finite(row.score), "regained": finite(row.regained)}
        )
        for row in found.rows
    ]
    return models.WriteVerify(
        base=finite(found.base.value),
        rows=rows,
        best=found.best,
        factor=found.factor,
        writes_without=found.writes[0],
        writes_verified=found.writes[1],
        write_sigma=found.write_sigma,
        write_model=_WRITE_MODEL,
        draws=found.draws,
        crafting_samples=found.crafting_samples,
    )


def _point(point: StuckPoint) -> models.StuckPoint:
    return models.StuckPoint(
        budget=point.budget,
        score=finite(point.score.value),
        correct=point.score.count,
        file_score=finite(point.file_score.value),
        magnitude=finite(point.magnitude.value),
        random_mean=finite(point.random_mean),
        random_worst=finite(point.random_worst),
        devices=[models.StuckDevice(**asdict(device)) for device in point.devices[:_LISTED]],
    )
