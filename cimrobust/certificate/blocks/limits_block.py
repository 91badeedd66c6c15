"""What a run checked of itself, and what it has to warn of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.certificate import models
from cimrobust.device.distribution import excluded_probability

if TYPE_CHECKING:
    from cimrobust.certificate.evidence import Evidence
    from cimrobust.engine.arithmetic_findings import Arithmetic
    from cimrobust.engine.checks import Parity, TensorLiveness
    from cimrobust.engine.converter_proof import Converters

# Expected devices outside the box from which a warning is due: one chip in twenty has one.
_FEW_OUTSIDE = 0.05


def checks(evidence: Evidence) -> list[models.Check]:
    """List the self-checks that this run passed."""
    done = evidence.runtime.checks
    converters = evidence.runtime.converters
    source = (
        "the model file"
        if evidence.runtime.network.runs_as_file
        else "the model file as it is read here; the file itself cannot be run"
    )
    return [
        _parity(
            "deployed_equals_file",
            f"The deployed network with the file's own weights gives the outputs of {source}.",
            done.original,
        ),
        _arithmetic(done.arithmetic),
        _parity(
            "zero_deviation",
            "Zero deviation gives the quantised model's own output.",
            done.zero_deviation,
        ),
        _parity(
            "corner_equals_saved",
            "A random corner of the box gives the output of a model saved with these weights.",
            done.vertex,
        ),
        liveness_check(done.liveness),
        *_witness_checks(evidence),
        *([] if converters is None else _converter_checks(converters)),
    ]


_SEEN = "Moving each stored tensor moves the decision output."
_TRACED = "Each stored tensor that was moved alone moves the decision output; others are traced."
_HOW_TRACED = (
    "that the output depends on them is told by gradients that pass roundings straight through, at"
    " a corner of the box where the output is that of a saved model to the bit, and was not seen;"
    " the tensors of which they tell the least were moved one by one"
)


def liveness_check(found: Sequence[TensorLiveness]) -> models.Check:
    """Say of how many stored tensors it was seen that the output follows them."""
    dead = [tensor.initializer for tensor in found if tensor.move == "none"]
    traced = sum(1 for tensor in found if tensor.move == "traced")
    seen = len(found) - len(dead) - traced
    return models.Check(
        id="liveness",
        text=_TRACED if traced else _SEEN,
        held=True,
        detail=f"{seen} of {len(found)} stored tensors move the output"
        + (f"; {traced} are traced: {_HOW_TRACED}" if traced else "")
        + (f"; the output does not depend on {', '.join(dead)}" if dead else ""),
    )


def _witness_checks(evidence: Evidence) -> list[models.Check]:
    return [
        models.Check(
            id="witness_in_box",
            text=(
                "Every deviation of the witness lies in its tolerance interval, and nominal +"
                " deviation is the stored weight, bit for bit."
            ),
            held=True,
            detail=(
                f"{sum(tensor.num_weights for tensor in evidence.placement.tensors.values())}"
                " weights compared"
            ),
        ),
        models.Check(
            id="witness_devices",
            text=(
                "Every device of the witness lies in the interval of its own level, and the devices"
                " fold to the witness's weights."
            ),
            held=True,
            detail=(
                f"{evidence.devices.devices} devices of {evidence.devices.weights} weights; largest"
                f" difference of a weight {evidence.devices.largest_error:.2g} of the largest of"
                " its layer"
            ),
        ),
        models.Check(
            id="witness_replay",
            text="The worst score is the one that plain onnxruntime gives for the witness file.",
            held=True,
            detail=evidence.search.replay_note,
        ),
    ]


def _arithmetic(done: Arithmetic) -> models.Check:
    """State what the run of the model file was compared with.

    What was not compared is no check that held.
    """
    text = (
        "onnxruntime computes every operator of the model file as exact arithmetic does: integers"
        " exactly, floats within what rounding explains."
    )
    if done.reason is not None:
        return models.Check(
            id="exact_arithmetic", text=text, held=None, detail=f"Not compared: {done.reason}."
        )
    detail = (
        f"{done.compared} tensors of {done.num_samples} samples compared, {len(done.wrong)} of"
        " them off"
    )
    if done.share:
        detail += (
            f"; float products use up to {100 * done.share:.2g} % of the rounding that is derived"
            " for them"
        )
    if done.left_out:
        detail += f"; not compared: {', '.join(f'{count} {op}' for op, count in done.left_out)}"
    return models.Check(id="exact_arithmetic", text=text, held=not done.wrong, detail=f"{detail}.")


def _converter_checks(converters: Converters) -> list[models.Check]:
    reference = converters.reference
    return [
        _parity(
            "ideal_converters",
            "The crossbar kernel with ideal converters gives the outputs of onnxruntime.",
            converters.ideal,
        ),
        models.Check(
            id="converters_reference",
            text=(
                "The crossbar kernel gives the products of a NumPy reference, converters included,"
                " bit for bit."
            ),
            held=True,
            detail=f"{reference.values} values of {reference.products} products compared",
        ),
    ]


#: Begins the warning that says why no effects are listed.
NO_EFFECTS = "There is no table of effects: "


def warnings(evidence: Evidence) -> list[str]:
    """Collect what a reader has to know before believing a number."""
    return [
        *evidence.runtime.warnings,
        *_outside(evidence),
        *_wide_levels(evidence),
        *([evidence.trials.note] if evidence.trials.note else []),
        *([f"{NO_EFFECTS}{evidence.effects.reason}."] if evidence.effects.reason else []),
        *(f"{warned.code}: {warned.text}" for warned in evidence.search.warnings),
    ]


def _outside(evidence: Evidence) -> list[str]:
    """Warn where chips inside the box hardly exist.

    The worst chip found, and what is proven, are about those alone.
    """
    tensors = evidence.placement.tensors.values()
    expected = sum(tensor.num_devices * excluded_probability(tensor.profile) for tensor in tensors)
    if expected < _FEW_OUTSIDE:
        return []
    devices = sum(tensor.num_devices for tensor in tensors)
    return [
        f"About {expected:.3g} of the {devices} devices of a chip are expected outside the"
        " tolerance box, and a chip is wholly inside with a probability of about"
        f" {math.exp(-expected):.2g}: the worst chip found and the certified bound are about chips"
        " inside. Drawn chips have such devices."
    ]


def _wide_levels(evidence: Evidence) -> list[str]:
    """Warn of integer weights that need more bits than the profile stores.

    Their box is right, their devices are counted too few.
    """
    wide: dict[int, list[str]] = {}
    for layer in evidence.scan.layers:
        bits = evidence.placement.tensors[layer.initializer].profile.weight.bits
        if layer.levels is not None and int(np.abs(layer.levels).max(initial=0)) >= 2**bits:
            wide.setdefault(bits, []).append(layer.initializer)
    return [
        f"The integer levels of {', '.join(names)} do not fit the profile's {bits} magnitude bits:"
        " slices and devices are counted too few."
        for bits, names in wide.items()
    ]


def _parity(name: str, text: str, parity: Parity) -> models.Check:
    detail = f"{parity.num_samples} samples, largest difference {parity.max_difference:.3g}"
    if parity.tolerance is None:
        detail += f", {parity.differing_decisions} decisions differ"
    else:
        detail += f", allowed {parity.tolerance:.3g}"
    return models.Check(id=name, text=text, held=parity.holds, detail=detail)
