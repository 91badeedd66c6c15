"""What the claims rest on, what was checked, and what was not covered."""

from __future__ import annotations

import numpy as np

from cimrobust.certificate import models
from cimrobust.certificate.evidence import Evidence
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.checks import Parity

_NOT_COVERED = (
    "Changes after programming: drift, relaxation, retention loss, temperature, ageing.",
    "Read noise and any other change from one read to the next.",
    "Converters and wires: DAC and ADC quantisation, clipping, IR drop; sums of currents are taken as exact.",
    "Stuck devices and other faults; every device is assumed to reach its acceptance window.",
    "Perturbed, shifted or adversarial inputs: inputs are the evaluation samples as they are.",
    "Biases, normalisation and activations: they are digital and exact.",
    "Chips worse than the one found: a search proves nothing about patterns it did not try.",
)


def checks(evidence: Evidence) -> list[models.Check]:
    """List the self-checks that this run passed."""
    done = evidence.runtime.checks
    live = sum(1 for tensor in done.liveness if tensor.move != "none")
    return [
        _parity(
            "deployed_equals_file", "The deployed network with the file's own weights gives the outputs of the model file.", done.original
        ),
        _parity("zero_deviation", "Zero deviation gives the quantised model's own output.", done.zero_deviation),
        _parity("corner_equals_saved", "A random corner of the box gives the output of a model saved with these weights.", done.vertex),
        models.Check(
            id="liveness",
            text="Moving each stored tensor moves the decision output.",
            held=True,
            detail=f"{live} of {len(done.liveness)} stored tensors move the output"
            + (f"; the output does not depend on {', '.join(done.dead)}" if done.dead else ""),
        ),
        models.Check(
            id="witness_in_box",
            text="Every deviation of the witness lies in its tolerance interval, and nominal + deviation is the stored weight, bit for bit.",
            held=True,
            detail=f"{sum(tensor.nominal.size for tensor in evidence.placement.tensors.values())} weights compared",
        ),
        models.Check(
            id="witness_replay",
            text="The worst score is the one that plain onnxruntime gives for the witness file.",
            held=True,
            detail=evidence.search.replay_note,
        ),
    ]


def assumptions(evidence: Evidence) -> list[models.Assumption]:
    """List what the claims rest on."""
    profile = evidence.placement.profile
    rows = [
        models.Assumption(
            id="A1",
            text=f"Every device ends within {100 * profile.tolerance_fraction():.4g} % of the conductance range of its target.",
            how_checked=_tolerance_source(profile),
            effect_if_false="A chip can be worse than every number here.",
        ),
        models.Assumption(
            id="A2",
            text=f"Deviations inside the tolerance are independent and follow the stated distribution ({profile.device.distribution}).",
            how_checked="Stated by the device profile; not checked by this tool.",
            effect_if_false="The average, the percentiles and their bounds do not hold; the worst found stays a fact.",
        ),
        models.Assumption(
            id="A3",
            text="The evaluation samples stand for the inputs in use.",
            how_checked="Not checked; the data set is identified by its digests.",
            effect_if_false="Scores in use differ from all scores here.",
        ),
        models.Assumption(
            id="A4",
            text="Weights are coded as stated: bits, slices, signs and scale of the mapping.",
            how_checked="Stated by the device profile; the kernel is tested bit for bit against a reference.",
            effect_if_false="The tolerance box has another shape.",
        ),
    ]
    if profile.weight.mapping == "offset":
        rows.append(
            models.Assumption(
                id=f"A{len(rows) + 1}",
                text="The shared reference columns are subtracted as their ideal value; their own deviation is not in the box.",
                how_checked="Not checked.",
                effect_if_false="Deviations common to all columns of an array are missing.",
            )
        )
    if evidence.runtime.dataset.labels is None:
        rows.append(
            models.Assumption(
                id=f"A{len(rows) + 1}",
                text="The model's own decisions without deviation are right.",
                how_checked="Not checked: there are no labels, so scores count unchanged decisions.",
                effect_if_false="An unchanged decision may be an unchanged mistake.",
            )
        )
    return rows


def not_covered(evidence: Evidence) -> list[str]:
    """List what the certificate says nothing about."""
    rows = list(_NOT_COVERED)
    digital = len(evidence.scan.unmapped)
    if digital:
        rows.append(f"{digital} nodes that stay digital are taken as exact; the mapping section lists them with the reason.")
    if not evidence.search.has_twin:
        rows.append(
            f"Gradient search: this network has no differentiable twin ({evidence.search.twin_reason}), only gradient-free members ran."
        )
    probability = evidence.placement.profile.excluded_probability()
    if probability > 0:
        cause = "after write-verify" if evidence.placement.profile.device.is_verified else "without write-verify"
        rows.append(f"Devices outside the box: {cause} each device leaves it with probability {probability:.3g}.")
    return rows


def warnings(evidence: Evidence) -> list[str]:
    """Collect what a reader has to know before believing a number."""
    return [
        *evidence.runtime.warnings,
        *_wide_levels(evidence),
        *(f"{warned.code}: {warned.text}" for warned in evidence.search.warnings),
    ]


def _wide_levels(evidence: Evidence) -> list[str]:
    """Warn of integer weights that need more bits than the profile stores: their box is right, their devices are counted too few."""
    bits = evidence.placement.profile.weight.bits
    wide = [
        layer.initializer
        for layer in evidence.scan.layers
        if layer.levels is not None and int(np.abs(layer.levels).max(initial=0)) >= 2**bits
    ]
    if not wide:
        return []
    return [
        f"The integer levels of {', '.join(wide)} do not fit the profile's {bits} magnitude bits: slices and devices are counted too few."
    ]


def _tolerance_source(profile: DeviceProfile) -> str:
    if profile.device.is_verified:
        return f"Write-verify as stated by the device profile ({profile.source}); not checked by this tool."
    return f"There is no write-verify: the box is {profile.device.z:g} sigmas wide and leaves out some devices ({profile.source})."


def _parity(name: str, text: str, parity: Parity) -> models.Check:
    detail = f"{parity.num_samples} samples, largest difference {parity.max_difference:.3g}"
    if parity.tolerance is None:
        detail += f", {parity.differing_decisions} decisions differ"
    else:
        detail += f", allowed {parity.tolerance:.3g}"
    return models.Check(id=name, text=text, held=parity.holds, detail=detail)
