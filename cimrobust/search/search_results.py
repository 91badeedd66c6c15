"""What a search gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.data.decision import Score
from cimrobust.search.search_records import EffortCurve, Warned

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32


@dataclass(frozen=True)
class MemberResult:
    """What one member found.

    Attributes:
        name: Name of the member.
        score: Score of its best pattern on all samples, by onnxruntime; None where it could not
            run.
        seconds: Wall-clock time, scoring included.
        passes: Forward-backward passes over the attack set.
        evaluations: Forward runs over the attack set, by onnxruntime or the twin; runs that
            stopped early count by their samples.
        note: What a reader should know, e.g. which start won or why it did not run.
    """

    name: str
    score: Score | None
    seconds: float
    passes: int
    evaluations: int
    note: str


@dataclass(frozen=True)
class SearchResult:
    """The worst pattern found, replayed, and how it was found.

    Attributes:
        score: Score of the deviated ONNX file in a fresh onnxruntime session; with converters, that
            of the kernel.
        file_score: Score of the deviated ONNX file in a fresh onnxruntime session.
        member: Member that found the pattern.
        deviations: The pattern; ``lo <= d <= hi`` and ``worst weight = float32(nominal + d)``
            exactly.
        members: All members, in the order they ran.
        has_twin: Gradient members ran.
        twin_reason: Why they did not; None where they did.
        warnings: Named warnings.
        effort: Level of effort.
        seed: Seed.
        crafting_samples: Samples that patterns were made on; all are scored on every sample.
        passes: Forward-backward passes of all members.
        evaluations: Forward runs over the attack set of all members.
        engine_score: Score of the same pattern in the engine that the trials use.
        curve: How fast the search became as good as it is; None where nothing was found.
        replay_note: How the replay was run, and how it differs from the engine's score, if it does.
    """

    score: Score
    file_score: Score
    member: str
    deviations: Mapping[str, Float32[np.ndarray, "..."]]
    members: tuple[MemberResult, ...]
    has_twin: bool
    twin_reason: str | None
    warnings: tuple[Warned, ...]
    effort: str
    seed: int
    crafting_samples: int
    passes: int
    evaluations: int
    engine_score: Score
    replay_note: str
    curve: EffortCurve | None = None
