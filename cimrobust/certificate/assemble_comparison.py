"""Puts two certificates side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cimrobust.certificate.baseline_required import data_digests
from cimrobust.certificate.blocks import item_block as item
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models.compared_certificates import (
    ChangedLayer,
    ChangedRequirement,
    ComparedCertificate,
    Comparison,
    Sameness,
)
from cimrobust.certificate.models.item import Layer
from cimrobust.certificate.score_differences import JOINT_CONFIDENCE, Side, compare_scores, measured
from cimrobust.device.digest import digest_of_tables
from cimrobust.input_file import printable

_NOT_STATED = "not stated"
_NOT_CHECKED = (
    "Nothing of the evidence was checked: cimrobust replay does that for each of the two."
)
_DIGITS = 16


def assemble_comparison(a: Side, b: Side, digests: tuple[str, str]) -> Comparison:
    """Compare two certificates.

    Args:
        a: The first.
        b: The second.
        digests: SHA-256 of both files.
    """
    one, other = a.certificate, b.certificate
    same_metric = one.metric.name == other.metric.name and measured(one) == measured(other)
    same_samples = _samples(one) == _samples(other)
    requirements = list(_requirements(one, other))
    changed = [row for row in requirements if (row.a, row.text_a) != (row.b, row.text_b)]
    layers = list(_layers(one, other))
    different = [row for row in layers if row.fields or not (row.in_a and row.in_b)]
    return Comparison(
        schema_version="1.0",
        tool=item.tool(),
        a=_described(one, digests[0]),
        b=_described(other, digests[1]),
        metric=one.metric,
        same_samples=same_samples,
        joint_confidence=JOINT_CONFIDENCE,
        sameness=list(_sameness(one, other)),
        scores=list(compare_scores(a, b, same_metric=same_metric, same_samples=same_samples)),
        requirements=changed,
        requirements_same=len(requirements) - len(changed),
        layers=different,
        layers_same=len(layers) - len(different),
        notes=list(_notes(one, other, same_samples=same_samples)),
    )


def _described(made: CertificateModel, digest: str) -> ComparedCertificate:
    return ComparedCertificate(
        model=made.model.name,
        sha256=digest,
        schema_version=made.stated_version,
        tool=made.tool.version,
        issued=made.issued,
        verdict=made.verdict.word,
    )


def _samples(made: CertificateModel) -> tuple[object, ...]:
    return data_digests(made), made.data.used, made.data.labels, made.data.label_source


def _sameness(one: CertificateModel, other: CertificateModel) -> Iterator[Sameness]:
    """Yield what may be the same, then every setting that is not."""
    for name, (equal, read) in _READERS.items():
        yield Sameness(name=name, equal=equal(one) == equal(other), a=read(one), b=read(other))
    settings = [_settings(made) for made in (one, other)]
    for key in dict.fromkeys([*settings[0], *settings[1]]):
        values = [found.get(key, _NOT_STATED) for found in settings]
        if values[0] != values[1]:
            yield Sameness(
                name=f"setting {printable(key)[:100]}", equal=False, a=values[0], b=values[1]
            )


def _settings(made: CertificateModel) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for row in made.settings:
        found.setdefault(row.key, []).append(
            "none" if row.value is None else printable(row.value)[:200]
        )
    return {key: ", ".join(values) for key, values in found.items()}


def _short(digests: object) -> str:
    return (
        ", ".join(sorted(f"{digest[:_DIGITS]}..." for digest in digests))
        if isinstance(digests, set)
        else str(digests)
    )


def _model_digests(made: CertificateModel) -> set[str]:
    return {file.sha256 for file in made.model.files}


def _policy(made: CertificateModel) -> str:
    if made.policy is None:
        return "none"
    return (
        _NOT_STATED
        if made.policy_file is None
        else f"{printable(made.policy_file)[:100]}, {str(made.policy_sha256)[:_DIGITS]}..."
    )


def _machine(made: CertificateModel) -> str:
    return (
        _NOT_STATED
        if made.machine is None
        else f"{printable(made.machine.processor)[:100]}, onnxruntime {made.machine.onnxruntime}"
    )


_Reader = Callable[[CertificateModel], object]
#: What is compared, by name: what must be equal, and how it reads.
_READERS: dict[str, tuple[_Reader, Callable[[CertificateModel], str]]] = {
    "network": (
        _model_digests,
        lambda made: f"{printable(made.model.name)[:100]}, {_short(_model_digests(made))}",
    ),
    "data": (
        data_digests,
        lambda made: f"{printable(made.data.description)[:100]}, {_short(data_digests(made))}",
    ),
    "samples": (
        lambda made: made.data.used,
        lambda made: f"{made.data.used} of {made.data.available}",
    ),
    "scores": (measured, lambda made: printable(measured(made))[:200]),
    "device profile": (
        lambda made: digest_of_tables(made.device.profile),
        lambda made: (
            f"{printable(made.device.profile.get('name', _NOT_STATED))[:100]},"
            f" {digest_of_tables(made.device.profile)[:_DIGITS]}..."
        ),
    ),
    "tolerance": (
        lambda made: made.device.largest_tolerance_fraction,
        lambda made: (
            f"{100 * made.device.largest_tolerance_fraction:.6g} % of the conductance range"
        ),
    ),
    "search effort": (lambda made: made.worst_found.effort, lambda made: made.worst_found.effort),
    "drawn chips": (
        lambda made: (made.monte_carlo.trials, made.monte_carlo.seed),
        lambda made: f"{made.monte_carlo.trials}, seed {made.monte_carlo.seed}",
    ),
    "policy": (lambda made: made.policy, _policy),
    "tool": (
        lambda made: made.tool,
        lambda made: f"{printable(made.tool.name)[:40]} {printable(made.tool.version)[:40]}",
    ),
    "machine": (lambda made: made.machine, _machine),
}


def _requirements(one: CertificateModel, other: CertificateModel) -> Iterator[ChangedRequirement]:
    first, second = ({row.id: row for row in made.verdict.requirements} for made in (one, other))
    for name in dict.fromkeys([*first, *second]):
        a, b = first.get(name), second.get(name)
        yield ChangedRequirement(
            id=name,
            a=None if a is None else a.status,
            b=None if b is None else b.status,
            text_a=None if a is None else a.text,
            text_b=None if b is None else b.text,
        )


def _layers(one: CertificateModel, other: CertificateModel) -> Iterator[ChangedLayer]:
    first, second = ({row.initializer: row for row in made.mapping.layers} for made in (one, other))
    for name in dict.fromkeys([*first, *second]):
        a, b = first.get(name), second.get(name)
        fields = (
            []
            if a is None or b is None
            else [field for field in Layer.model_fields if getattr(a, field) != getattr(b, field)]
        )
        yield ChangedLayer(initializer=name, in_a=a is not None, in_b=b is not None, fields=fields)


def _notes(one: CertificateModel, other: CertificateModel, *, same_samples: bool) -> Iterator[str]:
    yield _NOT_CHECKED
    if same_samples:
        yield (
            "Both were judged on the same samples: on these the differences are facts; the"
            " intervals are about other samples, or other chips."
        )
    else:
        yield "They were judged on different samples: a difference may come from the samples alone."
    if digest_of_tables(one.device.profile) != digest_of_tables(other.device.profile):
        yield "They were made for different devices: a difference may come from the devices alone."
    if one.worst_found.effort != other.worst_found.effort:
        yield (
            "Their searches had different effort: the one that searched less may look better for"
            " that alone."
        )
    older = [made.stated_version for made in (one, other) if made.stated_version != made.VERSION]
    if older:
        yield (
            f"Files of schema {', '.join(older)} lack what later versions state; it reads"
            f" '{_NOT_STATED}'."
        )
