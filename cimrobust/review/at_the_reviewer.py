"""What whoever replays a certificate has at hand, and the labels that follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.data.load_dataset import load_data
from cimrobust.engine.teacher import labelled_by
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network, TensorSpec
from cimrobust.review.reading_check import as_certified
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.data.dataset import DataSet
    from cimrobust.review.evaluated import Evaluated


@dataclass(frozen=True)
class AtHand:
    """Files that the reviewer has beside the result, none of them loaded yet.

    Attributes:
        model: The network that the result is about; None: what needs it is not checked.
        data: The evaluation data; None: scores are not checked.
        labels_of: The network whose decisions are the labels; None: scores by them are not checked.
        calibration: Data that converters took their ranges from, where they were given apart.
        transfer: Folder of the certificate whose witness the search knew; None: it is not at hand.
        device: The device profile; None: the shipped one of the name stated, where there is one.
        policy: The policy file; None: its digest is not compared.
    """

    model: Path | None = None
    data: str | None = None
    labels_of: Path | None = None
    calibration: str | None = None
    transfer: Path | None = None
    device: str | None = None
    policy: Path | None = None


@dataclass(frozen=True)
class Given:
    """What is at hand beside the certificate.

    Attributes:
        network: The certified network; None: it is not.
        data: The evaluation data; None: they are not.
        teacher: The network whose decisions are the labels; None: it is not, or there is none.
        calibration: Data that converters took their ranges from, where they were given apart from
            the evaluation data.
        transfer: Folder of the certificate whose witness the search knew; None: it is not at hand,
            or there is none.
    """

    network: Network | None
    data: str | None
    teacher: Network | None
    calibration: str | None = None
    transfer: Path | None = None

    def samples(self, certificate: Evaluated, inputs: tuple[TensorSpec, ...]) -> DataSet:
        """Return the evaluation samples with labels from where the certificate says.

        None for labels that are not at hand, see `without_labels`.

        Args:
            certificate: The certificate.
            inputs: Inputs of the network that they are for.

        Raises:
            CimrobustError: The data cannot be read, or do not fit.
        """
        described = self.described(certificate, inputs)
        dataset = as_certified(certificate, described)
        if certificate.data.label_source == "given":
            return dataset
        unlabelled = replace(dataset, labels=None, stored={})
        if self.teacher is None:
            return unlabelled
        # Its decisions are those of the output that the description names, which need not have the
        # same name in this network.
        asked = replace(
            unlabelled, decision=replace(dataset.decision, output=described.decision.output)
        )
        return replace(labelled_by(self.teacher, asked), decision=dataset.decision)

    def described(self, certificate: Evaluated, inputs: tuple[TensorSpec, ...]) -> DataSet:
        """Return the evaluation samples as the data describe themselves.

        Arguments and errors as for `samples`.
        """
        assert self.data is not None
        return load_data(self.data, inputs=inputs, limit=certificate.data.used)

    def without_labels(self, certificate: Evaluated, dataset: DataSet) -> str:
        """Return why samples cannot be scored; nothing where they can."""
        source = certificate.data.label_source
        if dataset.labels is not None:
            return ""
        if source == "model":
            return (
                f"labels are the decisions of another network, {_named(certificate)}: give it by"
                " --labels-of"
            )
        if source == "given":
            return "labels came with the data, and these have none: give the data with their labels"
        return (
            "labels are the model's own decisions: give --model too" if self.network is None else ""
        )


def open_given(certificate: Evaluated, at_hand: AtHand) -> Given:
    """Load the networks that are at hand; a teacher that the result does not have is left aside.

    Raises:
        CimrobustError: A network cannot be read.
    """
    has_teacher = at_hand.labels_of is not None and certificate.data.label_source == "model"
    return Given(
        network=None if at_hand.model is None else load_network(at_hand.model),
        data=at_hand.data,
        teacher=(
            load_network(at_hand.labels_of)
            if at_hand.labels_of is not None and has_teacher
            else None
        ),
        calibration=at_hand.calibration,
        transfer=at_hand.transfer,
    )


def model_check(certificate: Evaluated, given: Given) -> ReplayCheck:
    """Compare the digests of the network's files."""
    network = given.network
    if network is None:
        return ReplayCheck("model_hash", None, "give --model to compare its digest")
    claimed = {entry.sha256 for entry in certificate.model.files}
    found = {file.sha256 for file in network.files}
    return ReplayCheck(
        "model_hash", found == claimed, f"{network.path.name}: {len(found)} files compared"
    )


def labels_checks(
    certificate: CertificateModel, given: Given, *, is_asked: bool
) -> Iterator[ReplayCheck]:
    """Compare the digest of the network whose decisions are the labels.

    Args:
        certificate: The certificate.
        given: What is at hand.
        is_asked: Whether such a network was given, needed or not.
    """
    claimed = certificate.data.labels_of
    if claimed is None:
        if is_asked:
            yield ReplayCheck(
                "labels_hash",
                None,
                "no network of --labels-of made the labels of this certificate; it is not used",
            )
        return
    if given.teacher is None:
        yield ReplayCheck(
            "labels_hash",
            None,
            f"labels are the decisions of {_named(certificate)}: give --labels-of to compare its"
            " digest",
        )
        return
    found = {file.sha256 for file in given.teacher.files}
    yield ReplayCheck(
        "labels_hash",
        found == set(claimed.values()),
        f"{given.teacher.path.name}: {len(found)} files compared",
    )


def _named(certificate: Evaluated) -> str:
    return ", ".join(
        f"{name} (sha256 {digest[:16]}...)"
        for name, digest in (certificate.data.labels_of or {}).items()
    )
