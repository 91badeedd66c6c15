"""How a worker opens what chips are scored on.

It imports little and runs nothing: a worker is ready in seconds, whatever the coordinator has
proved before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cimrobust.data.calibration import load_samples
from cimrobust.data.user_code import code_allowed, is_code_allowed, is_function
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.reopen import FirstOpening, reopen_network
from cimrobust.engine.subject import Subject
from cimrobust.engine.watchdog import current_time_limit, set_time_limit
from cimrobust.errors import UsageError
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.place import place
from cimrobust.montecarlo.trial_identity import TrialIdentity, identity_of
from cimrobust.onnx_io.load_network import load_network
from cimrobust.settings.subject_settings import SubjectSettings

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet
    from cimrobust.onnx_io.layers import LayerScan
    from cimrobust.onnx_io.network import Network
    from cimrobust.run import Run


#: Network, its crossbar layers, evaluation samples, and samples that converters take ranges from.
Loaded: TypeAlias = "tuple[Network, LayerScan, DataSet, DataSet | None]"


@dataclass(frozen=True, kw_only=True)
class Reopening(ABC):
    """How a worker opens a subject again, whatever it is read from.

    Attributes:
        profile: The devices.
        seed: Seed of the run.
        identity: What trials depend on, part by part, as the coordinator has it.
        first: What the coordinator found out and proved.
        allows_code: Whether a data description may name code.
        time_limit: Seconds that one run of the network may take.
    """

    profile: DeviceProfile
    seed: int
    identity: Mapping[str, str]
    first: FirstOpening
    allows_code: bool
    time_limit: float

    @abstractmethod
    def load(self) -> Loaded:
        """Return what is read from files that the worker must see."""

    def open(self) -> Subject:
        """Open the subject, and compare it with the coordinator's.

        Raises:
            CimrobustError: A file is missing here, or is another one than the coordinator's.
        """
        set_time_limit(self.time_limit)
        with code_allowed(self.allows_code):
            network, scan, dataset, calibrating = self.load()
        placement = place(scan, self.profile)
        runtime = reopen_network(
            network, scan, placement, dataset, self.first, calibration=calibrating
        )
        subject = Subject(runtime, placement)
        require_same(subject, self.seed, self.identity)
        return subject


def opened_here(subject: Subject, run: Run, identity: TrialIdentity) -> dict[str, Any]:
    """Return the attributes of a `Reopening` of what is open here.

    Args:
        subject: What is open.
        run: How to compute.
        identity: What its trials depend on.
    """
    return {
        "profile": subject.placement.profile,
        "seed": run.seed,
        "identity": dict(identity.parts),
        "first": FirstOpening.of(subject.runtime),
        "allows_code": is_code_allowed(),
        "time_limit": current_time_limit(),
    }


@dataclass(frozen=True, kw_only=True)
class OpenedByName(Reopening):
    """From the files that a user named.

    Attributes:
        named: What the user named, files by absolute paths.
    """

    named: SubjectSettings

    def load(self) -> Loaded:
        """Return what is read from the files."""
        network, scan = stored_layers(load_network(Path(self.named.model)), self.profile)
        dataset, calibrating = load_samples(
            self.named.data,
            None if self.named.calibration is None else str(self.named.calibration),
            inputs=network.inputs,
            limit=self.named.limit,
            needs_calibration=self.profile.needs_kernel,
        )
        return network, scan, dataset, calibrating


def require_same(subject: Subject, seed: int, identity: Mapping[str, str]) -> None:
    """Raise UsageError unless a worker has opened what the coordinator has.

    Args:
        subject: What the worker has opened.
        seed: Seed of the run.
        identity: What its trials depend on, part by part, as the coordinator has it.
    """
    differing = identity_of(subject.runtime, subject.placement, seed).differences(identity)
    if differing:
        raise UsageError(
            "worker must see the files of the coordinator, got other"
            f" {' and '.join(differing)} (--cluster); let both see the same folders"
        )


def recipe_of(
    named: SubjectSettings, subject: Subject, run: Run, identity: TrialIdentity
) -> OpenedByName:
    """Return how a worker opens what is open here.

    Args:
        named: What the user named.
        subject: The same, opened.
        run: How to compute.
        identity: What its trials depend on.
    """
    return OpenedByName(named=_absolute(named), **opened_here(subject, run, identity))


def _absolute(named: SubjectSettings) -> SubjectSettings:
    """Return settings whose files are found from any folder."""
    return replace(
        named,
        model=str(Path(named.model).absolute()),
        data=_path(named.data),
        calibration=None if named.calibration is None else _path(named.calibration),
    )


def _path(name: str | Path) -> str:
    """Return a name as an absolute path where it is one, and not that of a function."""
    is_path = not is_function(str(name)) and Path(name).exists()
    return str(Path(name).absolute()) if is_path else str(name)
