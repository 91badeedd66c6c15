"""Training, validation and evaluation samples, kept apart by what they contain."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from cimrobust.errors import UsageError
from cimrobust.seeds import stream

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet

#: Share of the training data that is set apart for validation, and the most samples of it.
VALIDATION_SHARE = 0.2
MOST_VALIDATION = 1000
_SHOWN = 10


@dataclass(frozen=True)
class Split:
    """Which samples of the training data are used for what.

    Attributes:
        training: Indices to train on.
        validation: Indices to choose by.
        dropped: Indices of samples that are evaluation samples as well, and left out.
        digest: SHA-256 of the contents of all training and evaluation samples and of this split.
    """

    training: Int64[np.ndarray, "training"]
    validation: Int64[np.ndarray, "validation"]
    dropped: Int64[np.ndarray, "dropped"]
    digest: str


def sample_digests(dataset: DataSet) -> list[bytes]:
    """Return the SHA-256 digest of every sample.

    All its inputs as they are fed, labels not counted.
    """
    parts = [dataset.inputs[name] for name in sorted(dataset.inputs)]
    rows = [np.ascontiguousarray(array).reshape(len(array), -1) for array in parts]
    return [
        hashlib.sha256(b"".join(row[index].tobytes() for row in rows)).digest()
        for index in range(dataset.num_samples)
    ]


def split_samples(
    training: DataSet, evaluation: DataSet, *, seed: int, drop_overlap: bool = False
) -> Split:
    """Divide the training data, and check that no sample of it is evaluated.

    Samples of the same content stay together, so that training and validation share none.

    Args:
        training: Data to train and to validate on.
        evaluation: Data that the certificates are about.
        seed: Seed of the run.
        drop_overlap: Leave samples out that are evaluation samples as well.

    Raises:
        UsageError: Some are, or too few are left.
    """
    own, others = sample_digests(training), sample_digests(evaluation)
    first_of = {digest: index for index, digest in reversed(list(enumerate(others)))}
    shared = [(index, first_of[digest]) for index, digest in enumerate(own) if digest in first_of]
    if shared and not drop_overlap:
        listed = ", ".join(f"{mine} = {theirs}" for mine, theirs in shared[:_SHOWN])
        raise UsageError(
            f"training and evaluation data must share no sample, got {len(shared)} of {len(own)}"
            " training samples that are evaluated too (training index = evaluation index:"
            f" {listed}{', ...' if len(shared) > _SHOWN else ''}; --train, --data); give other"
            " data, or leave them out of the training with --drop-overlap"
        )
    dropped = np.array([mine for mine, _ in shared], dtype=np.int64)
    kept = np.setdiff1d(np.arange(len(own)), dropped)
    chosen = _validation(kept, own, seed)
    rest = np.setdiff1d(kept, chosen)
    if not len(chosen) or not len(rest):
        raise UsageError(
            "training data must have samples of different content to train and to validate on, got"
            f" {len(kept)} (--train); give more data"
        )
    digest = hashlib.sha256(
        b"".join(own) + b"".join(others) + rest.tobytes() + chosen.tobytes()
    ).hexdigest()
    return Split(rest, chosen, dropped, digest)


def _validation(
    kept: Int64[np.ndarray, "kept"], digests: list[bytes], seed: int
) -> Int64[np.ndarray, "validation"]:
    """Return sorted indices of the validation samples.

    Whole groups of equal content, drawn at random.
    """
    groups: dict[bytes, list[int]] = {}
    for index in kept:
        groups.setdefault(digests[index], []).append(int(index))
    wanted = min(max(round(VALIDATION_SHARE * len(kept)), 1), MOST_VALIDATION)
    members = list(groups.values())
    chosen: list[int] = []
    for number in stream(seed, "retrain", "validation").permutation(len(members)):
        if len(chosen) >= wanted:
            break
        chosen += members[number]
    return np.sort(np.array(chosen, dtype=np.int64))
