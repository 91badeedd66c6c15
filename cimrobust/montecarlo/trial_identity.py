"""What the scores of drawn chips depend on, part by part.

Two runs whose identities agree draw the same chips and score them alike, so that trials of one may
stand in the table of the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from cimrobust.cluster.workplace import workplace

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.mapping.placement import Placement

#: Every part: what messages call it, and what a user does where it differs.
PARTS: Mapping[str, tuple[str, str]] = {
    "model": ("model", "give the same model file"),
    "samples": ("samples or labels", "give the same --data, --limit and --labels-of"),
    "devices": ("devices", "give the same --device, --tolerance and --digital"),
    "seed": ("seed", "give the same --seed"),
    "feeding": ("batches", "use the same version of cimrobust"),
    "converters": ("ranges of converters", "give the same --calibration"),
    "versions": ("versions", "install the same versions on all machines"),
    "machine": ("instruction sets", "use processors of one kind: onnxruntime chooses by them"),
}


@dataclass(frozen=True)
class TrialIdentity:
    """Everything that the score of a trial depends on.

    Attributes:
        parts: By part (see `PARTS`) a digest, or a short text where that says more.
    """

    parts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """One digest of all parts."""
        return hashlib.sha256(json.dumps(dict(self.parts), sort_keys=True).encode()).hexdigest()

    def differences(self, other: Mapping[str, str]) -> list[str]:
        """Return one sentence part for every part that another identity has otherwise."""
        return [
            f"{what} ({_shown(other.get(part))}, here {_shown(self.parts[part])})"
            for part, (what, _) in PARTS.items()
            if other.get(part) != self.parts[part]
        ]

    def remedies(self, other: Mapping[str, str]) -> list[str]:
        """Return what a user does about every part that another identity has otherwise."""
        return [
            remedy for part, (_, remedy) in PARTS.items() if other.get(part) != self.parts[part]
        ]


def identity_of(runtime: Runtime, placement: Placement, seed: int) -> TrialIdentity:
    """Return what the trials of an open network depend on.

    Args:
        runtime: The network with its data.
        placement: Where its weights are stored.
        seed: Seed of the run.
    """
    dataset = runtime.dataset
    feeding, converters = runtime.engine.feeding, runtime.converters
    return TrialIdentity(
        {
            "model": _digest([[file.name, file.sha256] for file in runtime.network.files]),
            "samples": _digest(
                [repr(dataset.decision), repr(dataset.reading), repr(runtime.task.decision)],
                {**dataset.inputs, **dataset.constants, "labels": runtime.task.labels},
            ),
            "devices": _digest(placement.profile.to_dict(), placement.nominal()),
            "seed": str(seed),
            "feeding": f"{feeding.mode} {feeding.size} {runtime.deployed.batch}",
            "converters": "none" if converters is None else _digest(converters.to_dict()),
            **workplace(),
        }
    )


def _digest(described: Any, arrays: Mapping[str, Shaped[np.ndarray, "..."]] | None = None) -> str:
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for name in sorted(arrays or {}):
        array = np.ascontiguousarray((arrays or {})[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _shown(value: str | None) -> str:
    """Return a part as messages show it: of a digest the beginning."""
    if value is None:
        return "not stated"
    return value[:12] if len(value) == 64 and " " not in value else value
