"""How weights lie in their range before and after a re-training, against the witnesses' files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.certificate.result_names import AFTER, BEFORE, WITNESS
from cimrobust.mapping.pattern_file import read_pattern
from cimrobust.review.differences import named
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.search.witness import DEVIATIONS_FILE
from cimrobust.training.training_roles import CONTROL

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.retrained import LayerWeights, Retraining, WeightScale

_RTOL = 1e-6


def weights_check(
    directory: Path, described: Retraining, certificates: Mapping[str, CertificateModel]
) -> Iterator[ReplayCheck]:
    """Derive largest weight, box and mean level of every layer again; nothing where none is stated.

    Those of the clipped control follow from no certificate.

    Args:
        directory: Folder of the re-training.
        described: What retrain.json says.
        certificates: The certificates by folder.
    """
    if not described.weights:
        return
    wrong = [
        place
        for role in (BEFORE, CONTROL, AFTER)
        for place in _wrong(directory, described.weights, certificates.get(role), role)
    ]
    yield ReplayCheck(
        "weights",
        not wrong,
        "weights, boxes and levels are those of the networks"
        if not wrong
        else f"the networks have other values of {named(wrong)}",
    )


def _wrong(
    directory: Path, rows: list[LayerWeights], made: CertificateModel | None, role: str
) -> Iterator[str]:
    stated: dict[str, WeightScale | None] = {row.initializer: getattr(row, role) for row in rows}
    if made is None:
        yield from (f"{role}.{name}" for name, scale in stated.items() if scale is not None)
        return
    radii = {layer.initializer: layer.box_radius for layer in made.mapping.layers}
    if sorted(stated) != sorted(radii) or len(stated) != len(rows):
        yield f"{role} (layers)"
        return
    path = directory / role / WITNESS / DEVIATIONS_FILE
    tensors = read_pattern(path, what="deviations of the witness")
    for name, scale in stated.items():
        size = np.abs(tensors[f"{name}.nominal"].astype(np.float64))
        largest = float(size.max(initial=0.0))
        derived = {
            "largest": largest,
            "box_radius": radii[name],
            "mean_level": float(size.mean()) / largest if largest else 0.0,
        }
        for field, value in derived.items():
            if scale is None or not math.isclose(
                getattr(scale, field), value, rel_tol=_RTOL, abs_tol=1e-12
            ):
                yield f"{role}.{name}.{field}"
