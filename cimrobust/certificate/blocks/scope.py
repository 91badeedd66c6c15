"""What the claims rest on, and what they say nothing about: both follow from the device profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimrobust.certificate import models
from cimrobust.device.distribution import excluded_probability
from cimrobust.device.intervals import deviation_interval

if TYPE_CHECKING:
    from cimrobust.certificate.evidence import Evidence
    from cimrobust.device.profile import DeviceProfile

_SECONDS = ((31_557_600.0, "years"), (86_400.0, "days"), (3_600.0, "hours"), (1.0, "seconds"))

# Layers that a sentence names.
_MOST_NAMES = 5

_Row = tuple[str, str, str]


@dataclass(frozen=True)
class Scope:
    """What assumptions and limits follow from.

    Attributes:
        profile: The devices as stated, with their rules.
        layers: Name, devices and number of devices of every layer.
        has_converters: Products go through converters.
        nodes_without: Nodes with stored weights whose converters are not simulated.
        nodes_digital: Nodes that stay digital.
        without_twin: Why the search had no gradients; None: it had.
        has_labels: The data have labels.
        teacher: Files of the network whose decisions are the labels, if one is.
    """

    profile: DeviceProfile
    layers: tuple[tuple[str, DeviceProfile, int], ...]
    has_converters: bool
    nodes_without: int
    nodes_digital: int
    without_twin: str | None
    has_labels: bool
    teacher: str

    @property
    def profiles(self) -> tuple[DeviceProfile, ...]:
        """Profiles of the layers, each once."""
        return tuple(dict.fromkeys(own for _, own, _ in self.layers))


def scope_of(evidence: Evidence) -> Scope:
    """Return what assumptions and limits of a run follow from."""
    runtime, converters = evidence.runtime, evidence.runtime.converters
    return Scope(
        profile=evidence.placement.profile,
        layers=tuple(
            (name, tensor.profile, tensor.num_devices)
            for name, tensor in evidence.placement.tensors.items()
        ),
        has_converters=converters is not None,
        nodes_without=0 if converters is None else len(converters.digital),
        nodes_digital=len(evidence.scan.unmapped),
        without_twin=None if evidence.search.has_twin else str(evidence.search.twin_reason),
        has_labels=runtime.dataset.labels is not None,
        teacher=", ".join(runtime.dataset.source.labels_of),
    )


def assumptions(scope: Scope) -> list[models.Assumption]:
    """List what the claims rest on."""
    rows = [*_device_rows(scope), *_converter_rows(scope), *_data_rows(scope)]
    return [
        models.Assumption(id=f"A{number}", text=text, how_checked=checked, effect_if_false=effect)
        for number, (text, checked, effect) in enumerate(rows, 1)
    ]


def not_covered(scope: Scope) -> list[str]:
    """List what the certificate says nothing about."""
    profile = scope.profile
    rows = [
        *_time_gaps(scope),
        *_read_gaps(profile),
        *_fault_gaps(profile),
        *_converter_gaps(scope),
    ]
    rows += [
        "Perturbed, shifted or adversarial inputs: inputs are the evaluation samples as they are.",
        "Biases, normalisation and activations: they are digital and exact.",
        "Chips worse than the one found: a search proves nothing about patterns it did not try.",
        (
            "Whether the search was made as stated: files cannot tell, a new search or a new run"
            " can (`cimrobust replay --search quick`, `--rerun`)."
        ),
    ]
    digital = scope.nodes_digital
    if digital:
        rows.append(
            f"{digital} nodes that stay digital are taken as exact; the mapping section lists them"
            " with the reason."
        )
    if scope.without_twin is not None:
        rows.append(
            "Gradient search: this network has no differentiable twin"
            f" ({scope.without_twin}), only gradient-free members ran."
        )
    return rows


def _device_rows(scope: Scope) -> list[_Row]:
    shares: dict[DeviceProfile, list[str]] = {}
    for name, own, _ in scope.layers:
        shares.setdefault(own, []).append(name)
    distributions = dict.fromkeys(profile.device.distribution for profile in shares)
    profile = scope.profile
    rows = [
        (
            _tolerance_claim(own, names if len(shares) > 1 else []),
            _tolerance_source(own),
            (
                "A chip can be worse than every number here."
                if excluded_probability(own) == 0
                else (
                    "A chip with devices outside, which is nearly every chip of many devices, can"
                    " be worse than the worst one found inside, and than what is proven."
                )
            ),
        )
        for own, names in shares.items()
    ]
    rows += [
        (
            (
                "Deviations inside the tolerance are independent and follow the stated"
                f" distribution ({', '.join(distributions)}"
                f"{', then relaxation' if profile.relaxation is not None else ''}"
                f"{', then drift' if profile.has_drift else ''})."
            ),
            "Stated by the device profile; not checked by this tool.",
            (
                "The average, the percentiles and their bounds do not hold; the worst found stays a"
                " fact."
            ),
        ),
        (
            "Weights are coded as stated: bits, slices, signs and scale of the mapping.",
            "Stated by the device profile; the kernel is tested bit for bit against a reference.",
            "The tolerance box has another shape.",
        ),
    ]
    return rows + _effect_rows(scope)


def _tolerance_claim(profile: DeviceProfile, names: Sequence[str]) -> str:
    """Say within what every device ends; of the layers named, or of all where none is."""
    low, high = deviation_interval(profile)
    within = (
        f"{100 * max(-low, high):.4g} %"
        if -low == high
        else f"{100 * low:+.4g} % to {100 * high:+.4g} %"
    )
    when = (
        f", from programming until {_duration(profile.drift.time_seconds)} after it"
        if profile.has_drift and profile.drift
        else ""
    )
    level = ", less at some levels" if profile.depends_on_level else ""
    working = "working device" if profile.has_faults else "device"
    more = f" and {len(names) - _MOST_NAMES} other layers" if len(names) > _MOST_NAMES else ""
    whose = f" of {', '.join(names[:_MOST_NAMES])}{more}" if names else ""
    share = excluded_probability(profile)
    if share > 0:
        written = (
            "" if profile.device.is_verified else " is programmed once, without write-verify, and"
        )
        return (
            f"A {working}{whose}{written} ends outside of {within} of the conductance range of its"
            f" target{level}{when} with probability {share:.3g}; the tolerance box is what lies"
            " inside."
        )
    return (
        f"Every {working}{whose} ends within {within} of the conductance range of its"
        f" target{level}{when}."
    )


def _effect_rows(scope: Scope) -> list[_Row]:
    rows, profile = [], scope.profile
    if profile.has_drift and profile.drift is not None and profile.drift.compensation == "global":
        rows.append(
            (
                (
                    "The outputs of every layer are multiplied by one number that undoes the mean"
                    " drift at the stated time."
                ),
                "Stated by the device profile; not checked by this tool.",
                "Scores after drift are lower than stated.",
            )
        )
    if profile.faults is not None and profile.has_faults:
        rows.append(
            (
                (
                    f"Drawn chips have stuck devices: {100 * profile.faults.stuck_low:.4g} % at the"
                    f" lowest and {100 * profile.faults.stuck_high:.4g} % at the highest"
                    " conductance, each independent of all others."
                ),
                "Stated by the device profile; not checked by this tool.",
                "The average, the percentiles and their bounds do not hold.",
            )
        )
    if any(own.weight.mapping == "offset" for own in scope.profiles):
        rows.append(
            (
                (
                    "The shared reference columns are subtracted as their ideal value; their own"
                    " deviation is not in the box."
                ),
                "Not checked.",
                "Deviations common to all columns of an array are missing.",
            )
        )
    return rows


def _converter_rows(scope: Scope) -> list[_Row]:
    if not scope.has_converters:
        return []
    rows = [
        (
            (
                "Converters are linear, have the stated bits and ranges, and do not differ from"
                " each other."
            ),
            (
                "Stated by the device profile; the kernel is compared with a NumPy reference in"
                " every run."
            ),
            "Scores through converters do not hold.",
        )
    ]
    if scope.profile.read_noise is not None:
        rows.append(
            (
                (
                    "Read noise is Gaussian and independent between reads; every score through"
                    " converters is one draw of it."
                ),
                "Stated by the device profile; not checked by this tool.",
                "Scores through converters do not hold.",
            )
        )
    return rows


def _data_rows(scope: Scope) -> list[_Row]:
    rows = [
        (
            "The evaluation samples stand for the inputs in use.",
            "Not checked; the data set is identified by its digests.",
            "Scores in use differ from all scores here.",
        )
    ]
    teacher = scope.teacher
    if not scope.has_labels or teacher:
        whose = (
            f"decisions of the network that made the labels ({teacher})"
            if teacher
            else "model's own decisions"
        )
        rows.append(
            (
                f"The {whose} without deviation are right.",
                (
                    "Not checked: there are no labels, so scores count"
                    f" {'decisions like those' if teacher else 'unchanged decisions'}."
                ),
                "An unchanged decision may be an unchanged mistake.",
            )
        )
    return rows


def _tolerance_source(profile: DeviceProfile) -> str:
    later = [
        name
        for name, acts in (
            ("relaxation", profile.relaxation is not None),
            ("drift", profile.has_drift),
        )
        if acts
    ]
    widened = f", widened by {' and '.join(later)} as stated there" if later else ""
    if profile.device.is_verified:
        return (
            f"Write-verify as stated by the device profile ({profile.source}){widened}; not checked"
            " by this tool."
        )
    return (
        f"There is no write-verify: the box is {profile.device.z:g} sigmas wide{widened} and leaves"
        f" out some devices ({profile.source})."
    )


def _time_gaps(scope: Scope) -> list[str]:
    profile = scope.profile
    causes = [] if profile.relaxation is not None else ["relaxation"]
    if not profile.has_drift:
        causes.insert(0, "drift")
    rows = [
        f"Changes after programming: {', '.join([*causes, 'retention loss, temperature, ageing'])}."
    ]
    if profile.has_drift and profile.drift is not None:
        rows.append(
            f"Any time later than {_duration(profile.drift.time_seconds)} after programming."
        )
    probability = max(excluded_probability(own) for own in scope.profiles)
    if probability > 0:
        is_verified = all(own.device.is_verified for own in scope.profiles)
        cause = "after write-verify" if is_verified else "without write-verify"
        expected = sum(devices * excluded_probability(own) for _, own, devices in scope.layers)
        rows.append(
            f"Devices outside the box: {cause} each device leaves it with probability"
            f" {probability:.3g}, so that about {expected:.3g} devices of a chip do."
        )
    return rows


def _read_gaps(profile: DeviceProfile) -> list[str]:
    if profile.read_noise is None:
        return ["Read noise and any other change from one read to the next."]
    return [
        "Read noise in the worst case: it is drawn, and no search chooses it; the tolerance box"
        " holds programmed conductances."
    ]


def _fault_gaps(profile: DeviceProfile) -> list[str]:
    if profile.faults is not None and profile.has_faults:
        return [
            "Stuck devices in the worst case: drawn chips have them, the tolerance box does not, so"
            " the search and its witness have none."
        ]
    return [
        "Stuck devices and other faults; every device is assumed to reach its acceptance window."
    ]


def _converter_gaps(scope: Scope) -> list[str]:
    profile = scope.profile
    if not scope.has_converters:
        return [
            "Converters and wires: DAC and ADC quantisation, clipping, IR drop; sums of currents"
            " are taken as exact."
        ]
    missing = [
        name for name, table in (("DAC", profile.dac), ("ADC", profile.adc)) if table is None
    ]
    ideal = f"the {' and the '.join(missing)} (the profile has none), " if missing else ""
    rows = [
        f"Wires and converter faults: {ideal}IR drop, offset, gain error and non-linearity of"
        " converters."
    ]
    if scope.nodes_without:
        rows.append(
            f"Converters of {scope.nodes_without} nodes with stored weights:"
            " the converters section lists them with the reason."
        )
    return rows


def _duration(seconds: float) -> str:
    for size, unit in _SECONDS:
        if seconds >= 2 * size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds:.4g} seconds"
