"""What an interrupted re-training has finished beside its epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cimrobust import __version__
from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.manifest import MANIFEST, manifest_problems
from cimrobust.engine.machine import this_machine
from cimrobust.files import sha256_of
from cimrobust.finished_parts import FinishedParts, digest_of

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.result import Certificate
    from cimrobust.data.dataset import DataSet
    from cimrobust.pipeline.retrain_request import RetrainRequest
    from cimrobust.training.session import Session


@dataclass(frozen=True)
class KeptCertificate:
    """A finished certificate: the digest of the list of its files, which has theirs."""

    manifest: str


def retraining_digest(asked: RetrainRequest, session: Session, datasets: Sequence[DataSet]) -> str:
    """Return a digest of what every part of a re-training depends on.

    Network, samples, labels, devices, settings, and all that computes.

    Args:
        asked: The request.
        session: The network, ready to be trained.
        datasets: Evaluation and training samples.
    """
    machine, run = this_machine(), asked.run
    return digest_of(
        [
            [[file.name, file.sha256] for file in session.runtime.network.files],
            repr(session.profile.to_dict()),
            repr((replace(asked.settings, resume=False), asked.training)),
            repr((asked.subject.device, asked.subject.tolerance, asked.subject.digital)),
            [[dict(data.inputs), dict(data.constants), data.labels] for data in datasets],
            [repr((data.decision, data.reading)) for data in datasets],
            [run.seed, run.effort, run.device_type],
            [__version__, np.__version__, str(torch.__version__)],
            [machine.architecture, machine.instruction_sets, machine.onnxruntime_build],
        ]
    )


def kept_certificate(
    parts: FinishedParts, folder: Path, make: Callable[[], Certificate]
) -> CertificateModel:
    """Return a certificate: the one in its folder if that is finished and whole, else made.

    Args:
        parts: Knows whether it is finished.
        folder: Where it lies.
        make: Makes it.
    """

    def check(kept: KeptCertificate) -> None:
        if sha256_of(folder / MANIFEST) != kept.manifest or manifest_problems(folder):
            raise ValueError("files of the certificate were changed")

    if parts.find(folder.name, KeptCertificate, check) is not None:
        return read_certificate(folder)
    made = make().record
    parts.keep(folder.name, KeptCertificate(sha256_of(folder / MANIFEST)))
    return made
