"""What a re-training says, against the certificates and files of its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.attack.tolerances import stated_tolerance
from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.programmed import programmed_score
from cimrobust.certificate.result_names import (
    AFTER,
    BEFORE,
    CERTIFICATE,
    RETRAINED_MODEL,
    RETRAINING,
    RETRAINING_REPORT,
    TRAINING_LOG,
)
from cimrobust.certificate.retrained_record import outcome_of
from cimrobust.certificate.side_by_side_tables import compare_layers, compare_tolerances
from cimrobust.device.load_profile import profile_of
from cimrobust.errors import InputRefusedError
from cimrobust.files import sha256_of
from cimrobust.input_file import printable
from cimrobust.report.render import render_retraining
from cimrobust.review.differences import Exactness, differences, named
from cimrobust.review.folder_check import folder_check
from cimrobust.review.page_check import page_check
from cimrobust.review.record_checks import is_of_today, record_checks
from cimrobust.review.replay_check import ReplayCheck, guarded
from cimrobust.review.retrain_weights import weights_check
from cimrobust.training.log import read_log
from cimrobust.training.training_roles import CONTROL, METHOD

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.retrained import Outcome, Retraining, Training

#: Networks by the folder of their certificate, relative to that of the re-training; that of before
#: lies elsewhere.
NETWORKS = {AFTER: RETRAINED_MODEL, CONTROL: f"{CONTROL}/{RETRAINED_MODEL}"}
# Re-trainings of these versions, and those of later ones by tools that wrote no manifest.
_WITHOUT_MANIFEST = frozenset({"1.0", "1.1", "1.2", "1.3"})
_TOOLS_WITHOUT_MANIFEST = ("0.1.", "0.2.")


def outcomes_of(described: Retraining) -> dict[str, Outcome]:
    """Return what is said of each certificate, by its folder."""
    found = {BEFORE: described.before, AFTER: described.after, CONTROL: described.control_outcome}
    return {role: outcome for role, outcome in found.items() if outcome is not None}


def read_certificates(directory: Path, described: Retraining) -> dict[str, CertificateModel]:
    """Read the certificates of a re-training, by folder.

    Raises:
        InputRefusedError: One is missing or corrupt, or is looked for elsewhere.
    """
    for role, outcome in outcomes_of(described).items():
        if outcome.folder != role:
            raise InputRefusedError(
                f"certificate must lie in '{role}', got '{printable(outcome.folder)[:100]}'"
                f" ({RETRAINING}, key 'folder'); do not trust it"
            )
    return {role: read_certificate(directory / role) for role in outcomes_of(described)}


def retrain_file_checks(
    directory: Path, described: Retraining, certificates: Mapping[str, CertificateModel]
) -> list[ReplayCheck]:
    """Derive again what follows from the files of a re-training alone.

    Args:
        directory: Folder of the re-training.
        described: What retrain.json says.
        certificates: From `read_certificates`.
    """
    may_lack = described.stated_version in _WITHOUT_MANIFEST or described.tool.version.startswith(
        _TOOLS_WITHOUT_MANIFEST
    )
    needed = {
        RETRAINING,
        RETRAINING_REPORT,
        RETRAINED_MODEL,
        TRAINING_LOG,
        *(f"{role}/{CERTIFICATE}" for role in certificates),
    }
    checks = guarded("schema", lambda: list(record_checks(directory / RETRAINING, described)))
    checks += guarded("manifest", lambda: [folder_check(directory, needed, may_lack=may_lack)])
    checks += guarded("files", lambda: [_files(directory, described)])
    checks += guarded("outcomes", lambda: list(_outcomes(described, certificates)))
    checks += guarded("networks", lambda: list(_networks(directory, described, certificates)))
    checks += guarded("conditions", lambda: [_conditions(described, certificates)])
    checks += guarded("training_log", lambda: [_log(directory, described)])
    checks += guarded("side_by_side", lambda: list(_side_by_side(described, certificates)))
    checks += guarded("weights", lambda: list(weights_check(directory, described, certificates)))
    checks += guarded("steps", lambda: list(_steps(directory, described, certificates)))
    checks += guarded(
        "report",
        lambda: [
            page_check(
                directory / RETRAINING_REPORT,
                described,
                described.tool,
                lambda: render_retraining(described),
            )
        ],
    )
    return checks


def _exactness(described: Retraining) -> Exactness:
    return Exactness(texts=is_of_today(described, described.tool))


def _files(directory: Path, described: Retraining) -> ReplayCheck:
    names = set(described.files)
    if not {RETRAINED_MODEL, TRAINING_LOG} <= names or any(
        Path(name).name != name for name in names
    ):
        raise InputRefusedError(
            f"files must be {RETRAINED_MODEL}, {TRAINING_LOG} and external data beside them,"
            f" got others ({RETRAINING}, files); do not trust it"
        )
    wrong = [
        name for name, digest in described.files.items() if sha256_of(directory / name) != digest
    ]
    return ReplayCheck(
        "files",
        not wrong,
        (
            f"{len(names)} files have the digests stated"
            if not wrong
            else f"other digests: {named(wrong)}"
        ),
    )


def _outcomes(
    described: Retraining, certificates: Mapping[str, CertificateModel]
) -> Iterator[ReplayCheck]:
    """Compare every outcome with the certificate in its folder."""
    for role, claimed in outcomes_of(described).items():
        derived = outcome_of(certificates[role], role)
        wrong = list(differences(derived, claimed, place=role, exactness=_exactness(described)))
        yield ReplayCheck(
            f"outcome {role}",
            not wrong,
            (
                "its certificate says so"
                if not wrong
                else f"its certificate has other values of {named(wrong)}"
            ),
        )
    has_control = (
        described.control is not None,
        described.control_outcome is not None,
        CONTROL in certificates,
    )
    if len(set(has_control)) != 1:
        yield ReplayCheck(
            "outcome control", False, "the control was trained or certified, but not both"
        )


def _networks(
    directory: Path, described: Retraining, certificates: Mapping[str, CertificateModel]
) -> Iterator[ReplayCheck]:
    """Compare networks with their certificates.

    Which is which, and that re-training changed nothing but numbers.
    """
    wrong = [
        role
        for role, name in NETWORKS.items()
        if role in certificates and sha256_of(directory / name) != _digest(certificates[role])
    ]
    if certificates[BEFORE].model.name != described.model:
        wrong.append("model")
    digests = {role: _digest(certificate) for role, certificate in certificates.items()}
    if digests[AFTER] == digests[BEFORE]:
        wrong.append("after (the network before)")
    yield ReplayCheck(
        "networks",
        not wrong,
        (
            "every certificate is of the network of its folder"
            if not wrong
            else f"of other networks: {named(wrong)}"
        ),
    )
    first = certificates[BEFORE].model
    changed = [
        f"{role}.{name}"
        for role, certificate in certificates.items()
        for name in ("operators", "inputs", "outputs", "parameters", "mapped_weights")
        if getattr(certificate.model, name) != getattr(first, name)
    ]
    yield ReplayCheck(
        "same_graph",
        not changed,
        "all networks have one graph" if not changed else f"not one graph: {named(changed)}",
    )


def _digest(certificate: CertificateModel) -> str:
    return certificate.model.files[0].sha256 if certificate.model.files else ""


def _conditions(described: Retraining, certificates: Mapping[str, CertificateModel]) -> ReplayCheck:
    """Check that all certificates were made under the same conditions.

    These must be the conditions that the re-training states.
    """
    before = certificates[BEFORE]
    wrong = []
    for role, made in certificates.items():
        pairs = {
            "metric": (made.metric, described.metric),
            "data.files": (made.data.files, described.splits.evaluation_files),
            "data.used": (made.data.used, described.splits.evaluation),
            "device.profile": (made.device.profile, before.device.profile),
            "device.tolerance_fraction": (made.device.tolerance_fraction, described.tolerance),
            "effort": (made.worst_found.effort, before.worst_found.effort),
            "seed": (made.monte_carlo.seed, described.settings.get("seed", made.monte_carlo.seed)),
            "trials": (made.monte_carlo.trials, before.monte_carlo.trials),
            "labels": (made.data.label_source == "given", before.data.label_source == "given"),
            "policy": (made.policy, before.policy),
            "transfer": (_transfer(made), None if role == BEFORE else BEFORE),
        }
        wrong += [
            f"{role}.{name}" for name, (found, expected) in pairs.items() if found != expected
        ]
    if before.device.profile.get("name") != described.device:
        wrong.append("device")
    return ReplayCheck(
        "conditions",
        not wrong,
        (
            "all certificates have the same data, devices, effort and seed"
            if not wrong
            else f"made under other conditions: {named(wrong)}"
        ),
    )


def _steps(
    directory: Path, described: Retraining, certificates: Mapping[str, CertificateModel]
) -> Iterator[ReplayCheck]:
    """Compare the networks on the way with their files, and with their certificates."""
    roles = {"as it is": BEFORE, "plain": CONTROL, "method": AFTER}
    names = [step.name for step in described.steps]
    wrong = [name for name, role in roles.items() if (role in certificates) != (name in names)]
    wrong += sorted({name for name in names if names.count(name) > 1})
    for step in described.steps:
        if step.folder is not None:
            folder = directory / step.folder
            if not folder.resolve().is_relative_to(directory.resolve()):
                raise InputRefusedError(
                    f"networks must lie in the folder of the re-training, got"
                    f" '{printable(step.folder)[:100]}' ({RETRAINING}, steps); do not trust it"
                )
            if sha256_of(folder / RETRAINED_MODEL) != step.sha256:
                wrong.append(f"{step.name}.sha256")
        role = roles.get(step.name, "")
        if step.certified != (role in certificates):
            wrong.append(f"{step.name}.certified")
        if role in certificates:
            made = certificates[role]
            if step.worst_found != made.worst_found.score:
                wrong.append(f"{step.name}.worst_found")
            if step.sha256 != _digest(made):
                wrong.append(f"{step.name}.sha256")
            if step.clean != programmed_score(made):
                wrong.append(f"{step.name}.clean")
    if described.steps:
        yield ReplayCheck(
            "steps",
            not wrong,
            (
                "the networks on the way are those of their files and certificates"
                if not wrong
                else f"other files or certificates say otherwise: {named(wrong)}"
            ),
        )
    others = [step.name for step in described.steps if not step.certified]
    if others:
        yield ReplayCheck(
            "steps_searched",
            None,
            f"no certificate states the scores of {', '.join(map(printable, others))[:200]}, nor"
            " what the searches of the authors found: analyse their files",
        )


def _transfer(made: CertificateModel) -> str | None:
    value = next((row.value for row in made.settings if row.key == "transfer"), None)
    return None if value is None else str(value)


def _log(directory: Path, described: Retraining) -> ReplayCheck:
    """Compare the epochs of both trainings with the log."""
    logged = read_log(directory / TRAINING_LOG)
    trainings = {
        role: training
        for role, training in (
            (METHOD, described.training),
            (CONTROL, described.control),
            *described.more_trainings.items(),
        )
        if training is not None
    }
    wrong = [role for role in logged if role not in trainings]
    for role, training in trainings.items():
        wrong += [f"{role}.{place}" for place in _wrong_training(training, logged.get(role, []))]
    return ReplayCheck(
        "training_log",
        not wrong,
        (
            f"every epoch is that of {TRAINING_LOG}"
            if not wrong
            else f"{TRAINING_LOG} has other values of {named(wrong)}"
        ),
    )


def _wrong_training(
    training: Training, logged: list[dict[str, int | float | bool | None]]
) -> Iterator[str]:
    yield from differences(logged, [row.model_dump() for row in training.epochs], place="epochs")
    if training.best_epoch not in [row.epoch for row in training.epochs]:
        yield "best_epoch"


def _side_by_side(
    described: Retraining, certificates: Mapping[str, CertificateModel]
) -> Iterator[ReplayCheck]:
    """Derive again what is set side by side."""
    profile = profile_of(certificates[BEFORE].device.profile, shown="certificate.json")
    in_order = {
        role: certificates[role] for role in (BEFORE, AFTER, CONTROL) if role in certificates
    }
    tolerances = compare_tolerances(in_order, stated=stated_tolerance(profile))
    layers = compare_layers(in_order, trained=described.parameters.stored)
    for name, derived, claimed in (
        ("tolerances", tolerances, (described.tolerances, described.tolerances_reason)),
        ("layers", layers, (described.layers, described.layers_reason)),
    ):
        pairs = [
            (f"{name}{end}", one, other)
            for end, one, other in zip(("", "_reason"), derived, claimed, strict=True)
        ]
        wrong = [
            found
            for place, one, other in pairs
            for found in differences(one, other, place=place, exactness=_exactness(described))
        ]
        is_old = described.stated_version != described.VERSION and claimed[0] is None
        said = (
            f"'{name}' follows from the certificates"
            if not wrong
            else f"the certificates give other values of {named(wrong)}"
        )
        yield ReplayCheck(name, None if wrong and is_old else not wrong, said)
    equivalent = described.equivalent
    if (
        equivalent is not None
        and equivalent.tolerance is not None
        and not 0 < equivalent.tolerance <= described.tolerance
    ):
        yield ReplayCheck(
            "equivalent", False, "the equivalent tolerance is not between zero and the stated one"
        )
