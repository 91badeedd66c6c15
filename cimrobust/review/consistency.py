"""What anyone can derive again from the numbers of a certificate and its tables.

Neither model nor data is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from cimrobust import __version__
from cimrobust.certificate.blocks.drawn_chips import monte_carlo
from cimrobust.certificate.policy import Policy
from cimrobust.device.digest import profile_digest
from cimrobust.device.distribution import excluded_probability
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.device.load_profile import profile_of
from cimrobust.mapping.coding import cells_per_weight, num_slices
from cimrobust.review.differences import Exactness, differences, named
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.stated_layer import layer_profile, rule_problem
from cimrobust.review.stated_scores import is_share

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, Model, Timings
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.montecarlo.trial_table import TrialTable


def trials_check(certificate: CertificateModel, table: TrialTable) -> ReplayCheck:
    """Derive every number about the drawn chips again from the table of trials."""
    problem = _table_problem(certificate, table)
    if problem:
        return ReplayCheck("trials", False, problem)
    policy = None if certificate.policy is None else Policy.model_validate(certificate.policy)
    claimed = certificate.monte_carlo
    derived = monte_carlo(table, policy, num_inputs=certificate.data.used, rare=claimed.rare)
    # Sentences may read differently in another version; their numbers stand beside them.
    texts = (
        certificate.tool.version == __version__
        and certificate.stated_version == certificate.VERSION
    )
    wrong = list(
        differences(derived, claimed, place="monte_carlo", exactness=Exactness(texts=texts))
    )
    if wrong:
        return ReplayCheck(
            "trials", False, f"{table.num_trials} trials give other values of {named(wrong)}"
        )
    return ReplayCheck(
        "trials",
        True,
        f"{table.num_trials} trials of seed {table.seed} give every number about drawn chips",
    )


def _table_problem(certificate: CertificateModel, table: TrialTable) -> str:
    """Return what is wrong with the table itself, nothing if nothing is."""
    metric = certificate.metric
    if (table.metric, table.higher_is_better) != (metric.name, metric.higher_is_better):
        return f"the table counts {table.metric}, the certificate {metric.name}"
    if table.trial.tolist() != list(range(table.num_trials)):
        return "trials are not counted from 0"
    if (table.count is None) != (certificate.clean.correct is None):
        return "correct decisions are in one of table and certificate only"
    if table.count is not None:
        shares = table.count / table.num_samples
        if (
            (table.count < 0).any()
            or (table.count > table.num_samples).any()
            or (shares != table.value).any()
        ):
            return "scores are not correct decisions over samples"
    return ""


def consistency_checks(certificate: CertificateModel) -> Iterator[ReplayCheck]:
    """Check numbers of the certificate against each other."""
    yield _check(
        "metric_numbers", list(_wrong_metric(certificate)), "metric of decisions and scores is one"
    )
    yield _check(
        "shares", list(_wrong_shares(certificate)), "every score is correct decisions over samples"
    )
    yield _check(
        "worst_found_numbers",
        list(_wrong_worst(certificate)),
        "the worst score is that of the witness and of no better member",
    )
    yield _check(
        "device_numbers",
        list(_wrong_device(certificate)),
        "tolerance and excluded devices are those of the profile",
    )
    yield _check(
        "mapping_numbers", list(_wrong_mapping(certificate)), "devices, tiles and weights add up"
    )
    yield _check(
        "timings", list(wrong_timings(certificate.timings)), "seconds of the stages add up"
    )
    yield _check(
        "order",
        list(_wrong_order(certificate)),
        "certified bound, worst found and drawn chips contradict each other nowhere",
    )


def _check(name: str, wrong: list[str], fine: str) -> ReplayCheck:
    return ReplayCheck(name, not wrong, fine if not wrong else f"contradicted at {named(wrong)}")


def _wrong_metric(certificate: CertificateModel) -> Iterator[str]:
    if certificate.data.decision.metric != certificate.metric.name:
        yield "data.decision.metric"
    if certificate.data.decision.output not in {one.name for one in certificate.model.outputs}:
        yield "data.decision.output"
    # A share has counts, an error has none: neither may pass for the other.
    if (certificate.clean.correct is None) is (certificate.metric.name == "accuracy"):
        yield "clean.correct"


def _wrong_shares(certificate: CertificateModel) -> Iterator[str]:
    """Yield scores that are not correct decisions over samples, in blocks that state all three."""
    if certificate.metric.unit != "fraction":
        return
    clean, worst = certificate.clean, certificate.worst_found
    if not is_share(clean.quantised_score, clean.quantised_correct, clean.samples):
        yield "clean.quantised_score"
    if not is_share(worst.replay.score, worst.replay.correct, worst.samples):
        yield "worst_found.replay.score"
    for index, member in enumerate(worst.members):
        if not is_share(member.score, member.correct, worst.samples):
            yield f"worst_found.members.{index}.score"
    for index, point in enumerate(certificate.certified.curve):
        if not is_share(point.score, point.correct, certificate.certified.curve_samples):
            yield f"certified.curve.{index}.score"
    if certificate.converters is not None and not is_share(
        certificate.converters.score, certificate.converters.correct, clean.samples
    ):
        yield "converters.score"
    for place, block in _blocks(certificate, ""):
        names = type(block).model_fields
        if {"score", "correct", "samples"} <= names.keys():
            score, correct, samples = (
                getattr(block, name) for name in ("score", "correct", "samples")
            )
            if score is not None and not is_share(score, correct, samples):
                yield f"{place}.score"


def _blocks(value: Any, place: str) -> Iterator[tuple[str, BaseModel]]:
    """Yield every block below a value with its path."""
    if isinstance(value, BaseModel):
        if place:
            yield place, value
        for name in type(value).model_fields:
            yield from _blocks(getattr(value, name), f"{place}.{name}" if place else name)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _blocks(item, f"{place}.{index}")


def _wrong_worst(certificate: CertificateModel) -> Iterator[str]:
    worst, drawn = certificate.worst_found, certificate.monte_carlo
    if certificate.converters is None and (worst.score, worst.correct) != (
        worst.replay.score,
        worst.replay.correct,
    ):
        yield "worst_found.score"
    worse = min if certificate.metric.higher_is_better else max
    # Members are scored by the engine; the file of the witness may round its sums otherwise.
    known = worse(worst.score, worst.replay.engine_score)
    if any(worse(known, member.score) != known for member in worst.members):
        yield "worst_found.members"
    if worst.samples != certificate.clean.samples or worst.samples != drawn.samples:
        yield "worst_found.samples"
    rows = worst.confusion
    if rows is not None and (
        sum(map(sum, rows)) != worst.samples
        or sum(row[label] for label, row in enumerate(rows)) != worst.correct
    ):
        yield "worst_found.confusion"
    classes = certificate.clean.per_class
    if classes is not None and sum(row.samples for row in classes) == worst.samples:
        if sum(row.worst for row in classes) != worst.correct:
            yield "clean.per_class"
        if sum(row.clean for row in classes) != certificate.clean.correct:
            yield "clean.per_class"
    if (
        rows is not None
        and classes is not None
        and any(
            sum(row) != one.samples or row[index] != one.worst
            for index, (row, one) in enumerate(zip(rows, classes, strict=False))
        )
    ):
        yield "worst_found.confusion"
    if not worst.box_obeyed:
        yield "worst_found.box_obeyed"


def _wrong_device(certificate: CertificateModel) -> Iterator[str]:
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    if not math.isclose(
        certificate.device.tolerance_fraction, tolerance_fraction(profile), rel_tol=1e-12
    ):
        yield "device.tolerance_fraction"
    claimed = certificate.device.profile_sha256
    if claimed is not None and claimed != profile_digest(profile):
        yield "device.profile_sha256"
    if certificate.stated_version == certificate.VERSION:
        for name in ("profile_sha256", "devices_outside", "chip_inside_probability"):
            if getattr(certificate.device, name) is None:
                yield f"device.{name}"
    yield from _wrong_layers(certificate, profile)
    curve = certificate.certified.curve
    for index, point in enumerate(curve):
        if not math.isclose(
            point.tolerance_fraction, point.box_size * tolerance_fraction(profile), rel_tol=1e-9
        ):
            yield f"certified.curve.{index}.tolerance_fraction"


def _wrong_layers(certificate: CertificateModel, profile: DeviceProfile) -> Iterator[str]:
    """Yield what the profile says otherwise about the devices of a layer."""
    owns: list[tuple[int, DeviceProfile]] = []
    for index, layer in enumerate(certificate.mapping.layers):
        place = f"mapping.layers.{index}"
        if rule_problem(layer, profile):
            yield f"{place}.rule"
            continue
        own = layer_profile(layer, profile)
        owns.append((layer.devices, own))
        if not math.isclose(layer.tolerance_fraction, tolerance_fraction(own), rel_tol=1e-12):
            yield f"{place}.tolerance_fraction"
        found = {
            "weight_bits": own.weight.bits,
            "device_bits": own.device.bits,
            "slices": num_slices(own),
            "cells_per_weight": cells_per_weight(own),
            "coding": own.weight.mapping,
            "tile_rows": own.tile.rows,
            "tile_columns": own.tile.columns,
        }
        if not layer.levels_given:  # integers alone take fewer bits than the profile has
            found["weight_bits"] = profile.of_rule(layer.rule).weight.bits
        for name, value in found.items():
            if getattr(layer, name) != value:
                yield f"{place}.{name}"
    yield from _wrong_shares_of_devices(certificate, owns)


def _wrong_shares_of_devices(
    certificate: CertificateModel, owns: Sequence[tuple[int, DeviceProfile]]
) -> Iterator[str]:
    """Yield what follows otherwise from how many devices each layer has, and which."""
    stated = certificate.device
    shares = [(count, excluded_probability(own)) for count, own in owns]
    derived = {
        "largest_tolerance_fraction": max((tolerance_fraction(own) for _, own in owns), default=0),
        "excluded_probability": max((share for _, share in shares), default=0),
        "devices_outside": math.fsum(count * share for count, share in shares),
        "chip_inside_probability": math.exp(
            math.fsum(
                count * math.log1p(-share) if share < 1 else -math.inf for count, share in shares
            )
        ),
    }
    for name, value in derived.items():
        found = getattr(stated, name)
        if found is not None and not math.isclose(found, value, rel_tol=1e-9, abs_tol=1e-300):
            yield f"device.{name}"


def _wrong_mapping(certificate: CertificateModel) -> Iterator[str]:
    mapping = certificate.mapping
    for index, layer in enumerate(mapping.layers):
        weights = math.prod(layer.shape)
        own = weights * layer.cells_per_weight
        # An offset coding has reference columns beside the weights, which follow from the placement
        # alone (`layers`).
        if layer.devices < own or (layer.devices != own and layer.coding != "offset"):
            yield f"mapping.layers.{index}.devices"
        if not 0 <= layer.scale_min <= layer.scale_max:
            yield f"mapping.layers.{index}.scale_min"
    if mapping.total_devices != sum(layer.devices for layer in mapping.layers):
        yield "mapping.total_devices"
    if mapping.total_tiles != sum(layer.tiles for layer in mapping.layers):
        yield "mapping.total_tiles"
    yield from wrong_share_mapped(certificate.model)
    if certificate.model.mapped_weights != sum(math.prod(layer.shape) for layer in mapping.layers):
        yield "model.mapped_weights"


def wrong_share_mapped(model: Model) -> Iterator[str]:
    """Yield a share of weights in devices that is not that of the numbers beside it.

    Args:
        model: The network, as a result states it.
    """
    share = min(1.0, model.mapped_weights / max(model.parameters, 1))
    if not math.isclose(model.mapped_fraction, share, rel_tol=1e-12):
        yield "model.mapped_fraction"


def wrong_timings(timings: Timings) -> Iterator[str]:
    """Yield seconds that do not add up.

    Args:
        timings: Of a result.
    """
    total = sum(timings.stages.values())
    # Every stage is rounded to a thousandth by itself.
    slack = 0.001 * (len(timings.stages) + 1)
    if not math.isclose(timings.total_seconds, total, abs_tol=slack):
        yield "timings.total_seconds"


def _wrong_order(certificate: CertificateModel) -> Iterator[str]:
    """Yield claims that cannot hold together: a proof and a chip that breaks it."""
    proven, higher = certificate.certified.score, certificate.metric.higher_is_better
    if proven is not None:
        for place, score in (
            ("worst_found.score", certificate.worst_found.score),
            (
                "monte_carlo.min" if higher else "monte_carlo.max",
                certificate.monte_carlo.min if higher else certificate.monte_carlo.max,
            ),
        ):
            if (score < proven) if higher else (score > proven):
                yield f"certified.score and {place}"
    if (
        certificate.certified.correct is not None
        and certificate.certified.correct > certificate.certified.samples
    ):
        yield "certified.correct"
