"""Everything a certificate is made of, as the stages of a run hand it over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped

if TYPE_CHECKING:  # who reads an Evidence needs none of what computed it
    import numpy as np

    from cimrobust.attack.diagnosis_protocol import Diagnosis
    from cimrobust.certificate.models import Setting, Timings
    from cimrobust.certificate.named_digest import NamedDigest
    from cimrobust.certify.bound_summary import Certification
    from cimrobust.engine.open import Runtime
    from cimrobust.mapping.placement import Placement
    from cimrobust.montecarlo.effect_costs import EffectTable
    from cimrobust.montecarlo.failing import RareFailures
    from cimrobust.montecarlo.trial_table import TrialTable
    from cimrobust.onnx_io.layers import LayerScan
    from cimrobust.onnx_io.network import Network
    from cimrobust.reliability.likely_chip import LikelySearch
    from cimrobust.search.device_witness import DeviceCheck
    from cimrobust.search.search_results import SearchResult


class Tested(Protocol):
    """What the item under test is described from."""

    @property
    def network(self) -> Network:
        """The network as loaded."""

    @property
    def placement(self) -> Placement:
        """Where its crossbar layers are stored."""

    @property
    def runtime(self) -> Runtime:
        """The deployed network and its data."""


@dataclass(frozen=True)
class Evidence:
    """What one run found.

    Attributes:
        network: The network as loaded.
        scan: Its crossbar layers.
        placement: Where they are stored.
        runtime: The deployed network, its data and checks.
        trials: Drawn chips.
        search: Worst chip found.
        certification: Certified bound, or why there is none.
        effects: Score with every effect added in turn, or why it is not there.
        worst_output: Decision output of the witness file on all samples, samples first.
        witness: SHA-256 digest by file name, relative to the certificate's folder.
        devices: Self-check of the witness device by device.
        settings: Resolved configuration.
        device_argument: Device profile as the user named it.
        data_argument: Data set as the user named it.
        timings: Where the time went.
        rare: How likely a chip is that misses a score; None: not asked for.
        diagnosis: What explains the worst chip; None: no diagnostics were run.
        likely: Search for the most probable such chip; None: not asked for.
        likely_digest: SHA-256 digest of its file; None: there is no chip.
        issued: Day of issue, YYYY-MM-DD, as the user says; None: not stated.
        policy_file: The policy's file; None: there is no policy.
    """

    network: Network
    scan: LayerScan
    placement: Placement
    runtime: Runtime
    trials: TrialTable
    search: SearchResult
    certification: Certification
    effects: EffectTable
    worst_output: Shaped[np.ndarray, "samples *outputs"]
    witness: Mapping[str, str]
    devices: DeviceCheck
    settings: tuple[Setting, ...]
    device_argument: str
    data_argument: str
    timings: Timings
    rare: RareFailures | None = None
    diagnosis: Diagnosis | None = None
    likely: LikelySearch | None = None
    likely_digest: str | None = None
    issued: str | None = None
    policy_file: NamedDigest | None = None
