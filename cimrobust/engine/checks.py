"""Proofs before any number is believed: the deployed network is the file's network.

That every stored weight really moves it is for `engine.liveness`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Shaped

from cimrobust.engine.arithmetic_findings import NOT_ASKED, Arithmetic
from cimrobust.engine.batches import Feed, run_batches
from cimrobust.engine.sessions import open_session, run_session
from cimrobust.errors import ModelNotCoveredError, SelfCheckError
from cimrobust.late_arrays import LateArrays
from cimrobust.onnx_io.large_models import tensor_bytes
from cimrobust.onnx_io.save import session_source, weighted
from cimrobust.seeds import stream

if TYPE_CHECKING:
    from cimrobust.engine.ort import OrtEngine
    from cimrobust.mapping.placement import Placement, TensorPlacement

# Largest difference, as a fraction of the largest output, that another order of float32 sums may
# cause: thousands of terms a layer at 6e-8 each, tens of layers deep. Differences seen on real
# networks are below 1e-5.
FLOAT_TOLERANCE = 1e-4
# The same where activations are rounded to 16 bits (11 of mantissa) in layer after layer: which of
# them, an engine decides by what it fuses.
HALF_TOLERANCE = 16.0 * 2.0**-11
# Integer products are exact in both runs (`graph.unsigned`), so what is left is one rounding: the
# deployed network multiplies dequantised float32 weights, and a float32 sum within gamma(n) sum |w
# a| of a half becomes the level on its other side. That level moves others behind it, so no bound
# of the end follows from that of a layer; of 21 networks built for it no decision in 256 was seen
# to differ, of the two of the model zoo 0 and 1 in 2000 (docs/explanation/integers.md). Share of
# decisions that may: an alarm, not a tolerance of arithmetic, which is checked operator by operator
# (`certify.exact_arithmetic`).
INTEGER_DECISIONS = 0.01
# The same for regression, as a share of the largest output: a few levels of 8 bits, 0.4 % each; two
# of them, 1.3 %, were seen.
INTEGER_RANGE = 0.03
_LIVENESS_SEED = 0


@dataclass(frozen=True)
class Parity:
    """How far two runs of the same samples differ.

    Attributes:
        num_samples: Samples compared.
        num_decisions: Decisions compared, more than samples where each has many (pixels, tokens); 0
            where outputs were.
        max_difference: Largest absolute difference of the decision output, in its own unit.
        tolerance: Largest difference that was allowed; None: decisions were compared (integer
            networks).
        differing_decisions: Decisions that differ.
        holds: The two agree as far as they have to.
    """

    num_samples: int
    num_decisions: int
    max_difference: float
    tolerance: float | None
    differing_decisions: int
    holds: bool


@dataclass(frozen=True)
class TensorLiveness:
    """Whether moving one mapped initializer changes the decision output.

    Attributes:
        initializer: Its name.
        move: What changed the output: ``vertex`` (a corner of its tolerance box), ``replaced`` (all
            its weights drawn anew) or ``none``. ``traced``: the change was not seen, see
            `engine.liveness`; a gradient that passes roundings straight through reaches it from
            the output.
        max_change: Largest absolute change of the output seen, or what the twin's gradient gives
            for it.
    """

    initializer: str
    move: str
    max_change: float


@dataclass(frozen=True)
class Checks:
    """What was checked before the run.

    Attributes:
        original: Deployed network with the file's weights against the file itself.
        zero_deviation: Zero deviation against a plainly saved model with the quantised weights.
        vertex: A random corner of the tolerance box against a plainly saved model with these
            weights.
        liveness: One entry per mapped initializer.
        arithmetic: onnxruntime's run of the file against exact arithmetic.
    """

    original: Parity
    zero_deviation: Parity
    vertex: Parity
    liveness: tuple[TensorLiveness, ...]
    arithmetic: Arithmetic = NOT_ASKED

    @property
    def dead(self) -> tuple[str, ...]:
        """Mapped initializers on which no output depends."""
        return tuple(tensor.initializer for tensor in self.liveness if tensor.move == "none")


def max_difference(
    first: Shaped[np.ndarray, "..."] | np.generic, second: Shaped[np.ndarray, "..."] | np.generic
) -> float:
    """Return the largest absolute difference of two arrays, or of two numbers without axes.

    Infinite for different shapes or where only one is NaN or infinite. Texts differ by 1.
    """
    if first.shape != second.shape:
        return float("inf")
    if not _holds_numbers(first):
        return float(np.any(first != second))
    one, two = first.astype(np.float64), second.astype(np.float64)
    same = (one == two) | (np.isnan(one) & np.isnan(two))
    difference = np.abs(np.subtract(one, two, where=~same, out=np.zeros_like(one)))
    return float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf).max(initial=0.0))


def _holds_numbers(array: Shaped[np.ndarray, "..."] | np.generic) -> bool:
    return array.dtype.kind in "fiub"


def _largest(array: Shaped[np.ndarray, "..."]) -> float:
    """Return the largest finite magnitude; 0 where there is none, as of texts."""
    if not _holds_numbers(array):
        return 0.0
    return float(np.abs(array[np.isfinite(array)].astype(np.float64)).max(initial=0.0))


def compare(
    expected: Shaped[np.ndarray, "samples ..."],
    got: Shaped[np.ndarray, "..."],
    *,
    decisions: tuple[Shaped[np.ndarray, "..."], Shaped[np.ndarray, "..."]] | None,
    integer: bool,
    float_tolerance: float = FLOAT_TOLERANCE,
) -> Parity:
    """Compare outputs of the same samples.

    Args:
        expected: Outputs to reproduce.
        got: Outputs found.
        decisions: Decisions of both; None for regression, where outputs are the decisions.
        integer: The network rounds activations, so single levels may differ; decisions count then.
        float_tolerance: Largest difference of other networks, as a fraction of the largest output.
    """
    difference = max_difference(expected, got)
    scale = _largest(expected) or 1.0
    differing, num_decisions = 0, 0
    if decisions is not None and expected.shape == got.shape:
        unequal = np.asarray(decisions[0] != decisions[1])
        differing, num_decisions = int(unequal.sum()), int(unequal.size)
    num_samples = expected.shape[0]
    if decisions is not None and (integer or not np.issubdtype(expected.dtype, np.floating)):
        allowed = max(2, int(INTEGER_DECISIONS * num_decisions))
        return Parity(
            num_samples,
            num_decisions,
            difference,
            None,
            differing,
            expected.shape == got.shape and differing <= allowed,
        )
    tolerance = (INTEGER_RANGE if integer else float_tolerance) * scale
    return Parity(
        num_samples, num_decisions, difference, tolerance, differing, difference <= tolerance
    )


def check_against_saved(
    engine: OrtEngine,
    weights: Mapping[str, Float32[np.ndarray, "..."]],
    inputs: Feed,
    constants: Feed,
    *,
    what: str,
) -> Parity:
    """Compare the engine with a model that has the same weights saved inside it, run plainly.

    Raises:
        SelfCheckError: They differ, or differ from run to run.
    """
    with engine.open(
        weights
    ) as network:  # random operators begin anew with every session, so one session has to run twice
        ours, again = network.run(inputs, constants), network.run(inputs, constants)
    if max_difference(ours, again) != 0.0:
        raise ModelNotCoveredError(
            "model must give the same output for the same input, got a difference of"
            f" {max_difference(ours, again):g} ({what}); export it without random operators and in"
            " inference mode"
        )
    saved = run_saved(engine, weights, inputs, constants)
    parity = compare(saved, ours, decisions=None, integer=False)
    if not parity.holds:
        raise SelfCheckError(
            "engine output must equal that of a plainly saved model, got a difference of"
            f" {parity.max_difference:g} ({what}); report this model"
        )
    return parity


def run_saved(
    engine: OrtEngine,
    weights: Mapping[str, Float32[np.ndarray, "..."]],
    inputs: Feed,
    constants: Feed,
) -> Shaped[np.ndarray, "samples ..."]:
    """Return the output of a plainly saved model that has these weights inside."""
    with session_source(weighted(engine.deployed, weights)) as source:
        session = open_session(source, num_bytes=tensor_bytes(engine.deployed.model))
    del source  # bytes, perhaps as many as the network has

    def run(feed: Feed, _batch: slice) -> Shaped[np.ndarray, "..."]:
        return run_session(session, engine.output, feed)

    return run_batches(run, inputs, constants, engine.feeding)


def corner_of(placement: Placement, *, late: bool) -> Mapping[str, Float32[np.ndarray, "..."]]:
    """Return the weights of all tensors at the corner of `random_vertex`.

    Args:
        placement: Where they are stored.
        late: Hold none of them, and make each when it is read.
    """
    made = LateArrays(placement.tensors, lambda name: random_vertex(placement.tensors[name]))
    return made if late else dict(made)


def random_vertex(tensor: TensorPlacement) -> Float32[np.ndarray, "*weight"]:
    """Return the weights at a random corner of the tensor's tolerance box.

    The corner is the same in every run.
    """
    high = (
        stream(_LIVENESS_SEED, "vertex", tensor.initializer).random(tensor.shape, dtype=np.float32)
        < 0.5
    )
    lo, hi = tensor.limits()
    return np.asarray(tensor.nominal + np.where(high, hi, lo), dtype=np.float32)
