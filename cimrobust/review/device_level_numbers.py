"""Stuck devices and tighter verification, against devices, layers and the worst chip."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from cimrobust.certificate.programmed import programmed_score
from cimrobust.device.intervals import largest_programming_error
from cimrobust.device.load_profile import profile_of
from cimrobust.device_level.write_cycles import WriteCycles
from cimrobust.review.stated_layer import layer_profile
from cimrobust.review.stated_scores import is_share, is_worse_than_found

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.device_level import WriteVerify
    from cimrobust.device_level.device_level_records import StuckCurve, StuckDevices, VerifyRow

_RTOL = 1e-9
# Members of diagnostics: they may have found a worse chip after this one was made.
_LATER = "diagnostic_"


def _drawn_devices(certificate: CertificateModel) -> dict[str, int]:
    """Return the devices of every layer that hold weights; reference columns are none of them."""
    return {
        layer.initializer: math.prod(layer.shape) * layer.cells_per_weight
        for layer in certificate.mapping.layers
    }


def wrong_stuck_devices(certificate: CertificateModel) -> Iterator[str]:
    """Yield what of the stuck devices does not go together.

    Args:
        certificate: The certificate.
    """
    made = None if certificate.diagnostics is None else certificate.diagnostics.stuck_devices
    if made is None:
        return
    place = "diagnostics.stuck_devices"
    if made.total_devices != sum(_drawn_devices(certificate).values()):
        yield f"{place}.total_devices"
    if len(made.curves) != 2 or len({curve.others for curve in made.curves}) != 2:
        yield f"{place}.curves"
        return
    bases = (programmed_score(certificate), certificate.worst_found.score)
    is_later = certificate.worst_found.member.startswith(_LATER)
    for index, (curve, base) in enumerate(zip(made.curves, bases, strict=True)):
        if not math.isclose(curve.base, base, rel_tol=1e-6) and not (index and is_later):
            yield f"{place}.curves.{index}.base"
        yield from (
            f"{place}.curves.{index}.{name}" for name in _wrong_curve(certificate, made, curve)
        )


def _wrong_curve(
    certificate: CertificateModel, made: StuckDevices, curve: StuckCurve
) -> Iterator[str]:
    sign, before = (1 if certificate.metric.higher_is_better else -1), curve.base
    is_counted, layers = certificate.metric.unit == "fraction", _drawn_devices(certificate)
    if any(later.budget <= one.budget for one, later in pairwise(curve.points)):
        yield "points"
    for index, point in enumerate(curve.points):
        place = f"points.{index}"
        counted = (point.correct is not None) is is_counted
        if not counted or (
            is_counted and not is_share(point.score, point.correct, certificate.clean.samples)
        ):
            yield f"{place}.score"
        # What fewer did still counts.
        if sign * point.score > sign * before:
            yield f"{place}.score"
        before = point.score
        if certificate.converters is None and point.file_score != point.score:
            yield f"{place}.file_score"
        if sign * point.random_worst > sign * point.random_mean * (1 + sign * _RTOL):
            yield f"{place}.random_mean"
        if len(point.devices) > point.budget or any(
            device.layer not in layers or device.stuck not in made.kinds for device in point.devices
        ):
            yield f"{place}.devices"


def wrong_write_verify(certificate: CertificateModel) -> Iterator[str]:
    """Yield what of tighter verification does not follow from profile, layers and worst chip.

    Args:
        certificate: The certificate.
    """
    made = None if certificate.diagnostics is None else certificate.diagnostics.write_verify
    if made is None:
        return
    found = [*_wrong_writes(certificate, made), *_wrong_rows(certificate, made)]
    yield from (f"diagnostics.write_verify.{name}" for name in found)


def _tolerances(certificate: CertificateModel) -> list[tuple[float, int]]:
    """Return programming error and devices of every layer that has one."""
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    devices = _drawn_devices(certificate)
    pairs = [
        (largest_programming_error(layer_profile(layer, profile)), devices[layer.initializer])
        for layer in certificate.mapping.layers
    ]
    return [(tolerance, count) for tolerance, count in pairs if tolerance > 0]


def _mean_writes(made: WriteVerify, layers: list[tuple[float, int]], factor: float) -> float:
    cycles, total = WriteCycles(made.write_sigma), sum(count for _, count in layers)
    writes = sum(cycles.mean(tolerance / factor) * count for tolerance, count in layers)
    return writes / total if total else math.inf


def _wrong_writes(certificate: CertificateModel, made: WriteVerify) -> Iterator[str]:
    layers = _tolerances(certificate)
    for name, factor in (("writes_without", 1.0), ("writes_verified", made.factor)):
        again = _mean_writes(made, layers, factor)
        if not math.isclose(getattr(made, name), again, rel_tol=_RTOL):
            yield name
    total = sum(_drawn_devices(certificate).values())
    one_tolerance = len({tolerance for tolerance, _ in layers}) == 1 and total == sum(
        count for _, count in layers
    )
    more = made.writes_verified / made.writes_without - 1
    for index, row in enumerate(made.rows):
        if row.devices != max(round(row.share * total), 1):
            yield f"rows.{index}.devices"
        if one_tolerance and not math.isclose(
            row.extra_writes, more * row.devices / total, rel_tol=1e-6
        ):
            yield f"rows.{index}.extra_writes"


def _wrong_rows(certificate: CertificateModel, made: WriteVerify) -> Iterator[str]:
    sign = 1 if certificate.metric.higher_is_better else -1
    is_later = certificate.worst_found.member.startswith(_LATER)
    base = certificate.worst_found.replay.engine_score
    # The full box was attacked again, from the worst chip: the last to look for a worse one.
    if is_worse_than_found(certificate, made.base) or not (
        is_later or math.isclose(made.base, base, rel_tol=1e-6)
    ):
        yield "base"
    by_ranking: dict[str, list[VerifyRow]] = {}
    for index, row in enumerate(made.rows):
        by_ranking.setdefault(row.ranking, []).append(row)
        if sign * row.score < sign * made.base - _RTOL * abs(made.base) or not math.isclose(
            row.regained, sign * (row.score - made.base), rel_tol=1e-6, abs_tol=_RTOL
        ):
            yield f"rows.{index}.regained"
        per_write = row.regained / row.extra_writes if row.extra_writes > 0 else 0.0
        if not math.isclose(row.regained_per_write, per_write, rel_tol=1e-6, abs_tol=_RTOL):
            yield f"rows.{index}.regained_per_write"
    # Shares of a mean: a sum of errors without end is none.
    means = {
        name: sum(sign * row.score / len(rows) for row in rows) for name, rows in by_ranking.items()
    }
    if made.best not in means or means[made.best] < max(means.values()) - _RTOL * abs(
        max(means.values())
    ):
        yield "best"
    shares = [[row.share for row in rows] for rows in by_ranking.values()]
    if any(later <= one for one, later in pairwise(shares[0])) or any(
        row != shares[0] for row in shares
    ):
        yield "rows"
