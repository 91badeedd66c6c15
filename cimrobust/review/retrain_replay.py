"""The whole replay of a re-training.

Its files, then each of its certificates with the network of its folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cimrobust.certificate.result_names import AFTER, BEFORE, WITNESS
from cimrobust.device.load_profile import profile_of
from cimrobust.review.at_the_reviewer import AtHand, open_given
from cimrobust.review.depth import Depth
from cimrobust.review.differences import differences, named
from cimrobust.review.machine_check import is_same_machine
from cimrobust.review.other_results import read_retraining
from cimrobust.review.replay_check import ReplayCheck, guarded
from cimrobust.review.retrain_files import NETWORKS, read_certificates, retrain_file_checks
from cimrobust.training.equivalent_tolerance import equivalent_tolerance

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.retrained import Retraining

#: The replay of one result: its folder, what the reviewer has, how much is computed again.
Replay: TypeAlias = Callable[[Path, AtHand, Depth], list[ReplayCheck]]

_NOT_TRAINED = (
    "the training is not run again: its settings, the splits of the training data and how the"
    " learning rate was chosen follow from nothing at hand; what the networks do that came of it is"
    " checked"
)


def replay_retraining(
    directory: Path, at_hand: AtHand, depth: Depth, *, of_certificate: Replay
) -> list[ReplayCheck]:
    """Derive the claims of a re-training again.

    Args:
        directory: Folder of the re-training.
        at_hand: What the reviewer has beside it; the network is that before training, the others
            lie in the folder.
        depth: How much is computed again, of every certificate.
        of_certificate: Replays one of its certificates.

    Raises:
        InputRefusedError: There is no re-training or one of its certificates, or they do not follow
            the schema.
    """
    described = read_retraining(directory)
    certificates = read_certificates(directory, described)
    checks = retrain_file_checks(directory, described, certificates)
    checks.append(ReplayCheck("training", None, _NOT_TRAINED))
    for role, certificate in certificates.items():
        found = of_certificate(
            directory / role, _beside(directory, role, certificate, at_hand), depth
        )
        checks += [replace(check, id=f"{role}: {check.id}") for check in found]
    checks += guarded(
        "equivalent", lambda: list(_equivalent(directory, described, certificates, at_hand, depth))
    )
    return checks


def _beside(directory: Path, role: str, certificate: CertificateModel, at_hand: AtHand) -> AtHand:
    """Return what belongs to one of the certificates.

    Labels that are decisions are those of the network before training.
    """
    if role == BEFORE:
        return at_hand
    labels_of = at_hand.labels_of or (
        at_hand.model if certificate.data.label_source == "model" else None
    )
    return replace(
        at_hand, model=directory / NETWORKS[role], labels_of=labels_of, transfer=directory / BEFORE
    )


def _equivalent(
    directory: Path,
    described: Retraining,
    certificates: Mapping[str, CertificateModel],
    at_hand: AtHand,
    depth: Depth,
) -> Iterator[ReplayCheck]:
    """Look again for the tolerance at which the old network would be as good as the new one."""
    if described.equivalent is None:
        return
    if not depth.rerun or at_hand.model is None or at_hand.data is None:
        yield ReplayCheck(
            "equivalent",
            None,
            "the equivalent tolerance is derived by new searches alone (--model, --data, --rerun)",
        )
        return
    before = certificates[BEFORE]
    given = open_given(before, at_hand)
    assert given.network is not None
    found = equivalent_tolerance(
        given.network,
        profile_of(before.device.profile, shown="certificate.json"),
        given.samples(before, given.network.inputs),
        replace(depth.run, seed=before.monte_carlo.seed),
        target=certificates[AFTER].worst_found.score,
        witness=directory / BEFORE / WITNESS,
    )
    wrong = list(differences(found, described.equivalent, place="equivalent"))
    said = (
        "the same searches end at the same tolerance"
        if not wrong
        else f"the same searches give other values of {named(wrong)}"
    )
    yield ReplayCheck(
        "equivalent", None if wrong and not is_same_machine(before) else not wrong, said
    )
