"""What diagnostics are given and give back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool

from cimrobust.mapping.box import Box, Pattern
from cimrobust.search.search_results import SearchResult

if TYPE_CHECKING:
    from cimrobust.attack.attack_context import AttackContext
    from cimrobust.engine.open import Runtime
    from cimrobust.engine.subject import Subject
    from cimrobust.run import Run


@dataclass(frozen=True)
class DiagnosisRequest:
    """What is diagnosed.

    Attributes:
        context: The network, how to compute, and attacks that diagnostics share.
        found: The worst pattern found by the search.
        patterns: Patterns of the box that earlier diagnostics found, by where they come from.
        required: Score that the policy asks of the worst chip; None: it asks nothing.
        safety_class: Class whose recall must not fall; None: no class is special.
        without_bounds: Why diagnostics may not take certified bounds; empty: they may.
    """

    context: AttackContext
    found: SearchResult
    patterns: Mapping[str, Pattern] = field(default_factory=dict)
    required: float | None = None
    safety_class: int | None = None
    without_bounds: str = ""

    @property
    def subject(self) -> Subject:
        """The network, its data, and where its weights are stored."""
        return self.context.subject

    @property
    def runtime(self) -> Runtime:
        """The network and its data."""
        return self.context.subject.runtime

    @property
    def box(self) -> Box:
        """The tolerance box."""
        return self.context.subject.box

    @property
    def run(self) -> Run:
        """How to compute."""
        return self.context.run


@dataclass(frozen=True)
class Finding:
    """What one diagnostic found.

    Attributes:
        result: Its own frozen dataclass.
        passes: Forward-backward passes over its attack set; extra to those of the search.
        evaluations: Forward runs over its samples.
        patterns: Patterns of the box worth keeping for later diagnostics, by where they come from;
            layers that are not named are exact.
        broken: Samples that other patterns of the box broke, bool [samples]; None: none to tell of.
    """

    result: Any
    passes: int
    evaluations: int
    patterns: Mapping[str, Pattern] = field(default_factory=dict)
    broken: Bool[np.ndarray, "samples"] | None = None


@runtime_checkable
class DiagnosticRun(Protocol):
    """Body of a diagnostic."""

    def __call__(self, request: DiagnosisRequest) -> Finding:
        """Diagnose; the same request gives the same finding."""


@dataclass(frozen=True)
class Diagnostic:
    """One diagnostic.

    Attributes:
        name: Name on the command line and in the certificate, where `diagnostics.<name>` holds its
            result.
        title: What its progress bar is called.
        run: Does it.
        applies: Tells why it cannot run; nothing where it can.
        is_optional: Chosen by `--diagnostics`; False: runs whenever it applies.
        gives: Type of its result; None: an interrupted run does it again.
    """

    name: str
    title: str
    run: DiagnosticRun
    applies: Callable[[DiagnosisRequest], str] = field(default=lambda request: "")
    is_optional: bool = True
    gives: type[Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one diagnostic.

    Attributes:
        name: Its name.
        result: What it found; None: see `reason`.
        reason: Why it did not run; empty where it did.
        passes: Forward-backward passes.
        evaluations: Forward runs.
        seconds: Wall-clock time.
    """

    name: str
    result: Any | None
    reason: str
    passes: int = 0
    evaluations: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Diagnosis:
    """All diagnostics of a run.

    Attributes:
        outcomes: One entry for each diagnostic there is, in the order of the catalogue.
        found: The worst pattern found, which a diagnostic may have beaten.
        broken: Samples that a pattern of the box broke in any diagnostic, bool [samples]; None for
            a regression or several decisions a sample.
    """

    outcomes: tuple[Outcome, ...]
    found: SearchResult
    broken: Bool[np.ndarray, "samples"] | None
