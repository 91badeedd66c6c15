"""Whether a network that was made from a file computes what the file does.

This is checked also at sizes that no data at hand have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from cimrobust.engine.checks import compare, max_difference
from cimrobust.engine.first_pass import check_first_pass
from cimrobust.engine.original_file import model_source, scores_of_maps
from cimrobust.engine.sessions import open_session, run_outputs
from cimrobust.errors import ModelNotCoveredError, SelfCheckError, UsageError
from cimrobust.onnx_io.loops import open_ended_nodes
from cimrobust.seeds import stream

if TYPE_CHECKING:
    from cimrobust.engine.batches import Feed
    from cimrobust.onnx_io.network import Network, TensorSpec

#: Sizes that are different for all axes, one after the other: small odd ones, and multiples of
#: four.
_DIFFERENT = ((5, 7, 3, 11, 9, 13), (8, 12, 4, 16, 20, 24))

#: Sizes that all axes have but the first of an input, for files that ask for equal or larger ones.
_EQUAL = (6, 1, 2, 3, 4, 5, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 48, 64, 96, 128, 224, 256)

#: As many sizes are enough, and all of these are tried.
_ENOUGH, _ALWAYS = 10, 4

#: Most elements of one input.
_MOST_ELEMENTS = 2**24

#: Ranks that stand for an unknown one.
_RANKS = (2, 4, 3, 1, 0)

Axis = str | tuple[str, int]


@dataclass(frozen=True)
class SizesCheck:
    """A comparison at several sizes.

    Attributes:
        ran: Shapes of the inputs at the sizes compared, by input.
        num_refused: Sizes that the file itself refuses.
        max_difference: Largest absolute difference of any output.
    """

    ran: tuple[Mapping[str, tuple[int, ...]], ...]
    num_refused: int
    max_difference: float

    @property
    def sentence(self) -> str:
        """What was done, for users."""
        refused = (
            f", {self.num_refused} more were refused by the file itself" if self.num_refused else ""
        )
        what = "sizes of its inputs" if len(self.ran) > 1 else "size of its inputs"
        return (
            f"outputs agree with the file's own at {len(self.ran)} {what}{refused} (largest"
            f" difference {self.max_difference:.2g})"
        )


def check_sizes(network: Network, model: bytes, *, integer: bool) -> SizesCheck:
    """Compare a model with the file of a network on random inputs at several sizes.

    Axes of different names get different sizes.

    Args:
        network: The network; its file is what is right.
        model: What was made from it, with the weights that the file has, serialised.
        integer: The network rounds activations, so single levels may differ.

    Raises:
        SelfCheckError: Outputs differ, or the model refuses what the file takes.
        ModelNotCoveredError: The file runs at none of the sizes tried, or gives other outputs every
            time.
    """
    source = model_source(network)
    outputs = [spec.name for spec in network.outputs]
    choices = list(_choices(network.inputs))
    open_ended = open_ended_nodes(network.model)
    if open_ended:
        check_first_pass(source, _feed(network, choices[0], 0), outputs[0], nodes=open_ended)
    original, made = open_session(source), open_session(model)
    ran: list[Mapping[str, tuple[int, ...]]] = []
    largest, refused = 0.0, 0
    for index, shapes in enumerate(choices):
        if index >= _ALWAYS and len(ran) >= _ENOUGH:
            break
        feed = _feed(network, shapes, index)
        try:
            expected = _of_file(network, original, outputs, feed)
        except UsageError:
            refused += 1
            continue
        ran.append(shapes)
        difference = _difference(expected, made, outputs, feed, integer=integer)
        if difference is None:
            _check_repeatable(original, expected, outputs, feed, network)
            raise SelfCheckError(
                "what is made from a model must give the outputs of its file at all sizes, got"
                f" others at {_text(shapes)} ({network.path}); report this model"
            )
        largest = max(largest, difference)
    if not ran:
        raise ModelNotCoveredError(
            "model must run at one of the sizes that are tried, so that what is made from it can"
            f" be checked, got none of {refused} ({network.path}); state the sizes of its inputs in"
            " the file"
        )
    return SizesCheck(tuple(ran), refused, largest)


def _of_file(
    network: Network, original: Any, outputs: Sequence[str], feed: Feed
) -> list[Shaped[np.ndarray, "..."]]:
    """Run a file; its maps of labels to scores are given as the scores that they are here."""
    keys = network.map_keys if network.runs_as_file else {}
    return [
        scores_of_maps(value, keys[name]) if name in keys else value
        for name, value in zip(outputs, run_outputs(original, outputs, feed), strict=True)
    ]


def _difference(
    expected: list[Shaped[np.ndarray, "..."]],
    made: Any,
    outputs: list[str],
    feed: Feed,
    *,
    integer: bool,
) -> float | None:
    """Return how far a model is from what is expected of it, None where that is too far."""
    try:
        got = run_outputs(made, outputs, feed)
    except UsageError:
        return None
    largest = 0.0
    for one, two in zip(expected, got, strict=True):
        if one.dtype.kind in "OUS":
            if not np.array_equal(one, two):
                return None
            continue
        whole = not np.issubdtype(one.dtype, np.floating)
        parity = compare(
            np.atleast_1d(one),
            np.atleast_1d(two),
            decisions=_decisions(one, two, integer or whole),
            integer=integer,
        )
        if not parity.holds:
            return None
        largest = max(largest, parity.max_difference)
    return largest


def _decisions(
    one: Shaped[np.ndarray, "..."], two: Shaped[np.ndarray, "..."], single_levels: bool
) -> tuple[Shaped[np.ndarray, "..."], Shaped[np.ndarray, "..."]] | None:
    """Return what is compared of outputs that differ by single levels.

    The largest entries, or whole numbers themselves.
    """
    if not single_levels or one.shape != two.shape:
        return None
    if np.issubdtype(one.dtype, np.floating) and one.ndim > 1 and one.shape[-1] > 1:
        return one.argmax(axis=-1), two.argmax(axis=-1)
    return None if np.issubdtype(one.dtype, np.floating) else (one, two)


def _check_repeatable(
    original: Any,
    expected: list[Shaped[np.ndarray, "..."]],
    outputs: list[str],
    feed: Feed,
    network: Network,
) -> None:
    """Check that a file gives the same outputs again, in the same session.

    Random operators begin anew with every one.

    Raises:
        ModelNotCoveredError: It does not.
    """
    again = _of_file(network, original, outputs, feed)
    if any(
        max_difference(one, two) > 0
        for one, two in zip(expected, again, strict=True)
        if one.dtype.kind not in "OUS"
    ):
        raise ModelNotCoveredError(
            "model must give the same output for the same input, got another one when run again"
            f" ({network.path}); export it without random operators and in inference mode"
        )


def _choices(inputs: Sequence[TensorSpec]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Yield shapes of all inputs, none twice and none too large.

    One choice where the file gives all of them.
    """
    patterns = [(lead, sizes) for lead, sizes in zip((1, 2), _DIFFERENT, strict=True)] + [
        (lead, (size,)) for lead, size in zip((3, 1), _EQUAL, strict=False)
    ]
    patterns += [(1 + index % 2, (size,)) for index, size in enumerate(_EQUAL[2:])]
    seen: set[tuple[tuple[int, ...], ...]] = set()
    for index, (lead, sizes) in enumerate(patterns):
        shapes = _shapes(inputs, lead + index // _ALWAYS, sizes, _RANKS[index % len(_RANKS)])
        key = tuple(shapes.values())
        if key not in seen and all(math.prod(shape) <= _MOST_ELEMENTS for shape in key):
            seen.add(key)
            yield shapes


def _shapes(
    inputs: Sequence[TensorSpec], lead: int, sizes: Sequence[int], rank: int
) -> dict[str, tuple[int, ...]]:
    """Return a shape for every input.

    `lead` for first axes, `sizes` in turn for others, the same for axes of one name.
    """
    chosen: dict[Axis, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    stated = {
        spec.name: spec.shape if spec.shape is not None else (None,) * rank for spec in inputs
    }
    keys = {
        name: [dim if dim is not None else (name, axis) for axis, dim in enumerate(shape)]
        for name, shape in stated.items()
    }
    chosen.update(
        (axes[0], lead) for axes in keys.values() if axes and not isinstance(axes[0], int)
    )
    for name, axes in keys.items():
        for axis in axes:
            if not isinstance(axis, int) and axis not in chosen:
                chosen[axis] = sizes[
                    sum(1 for value in chosen if not _is_first(value, keys)) % len(sizes)
                ]
        shapes[name] = tuple(axis if isinstance(axis, int) else chosen[axis] for axis in axes)
    return shapes


def _is_first(axis: Axis, keys: Mapping[str, Sequence[object]]) -> bool:
    return any(axes and axes[0] == axis for axes in keys.values())


def _feed(network: Network, shapes: Mapping[str, tuple[int, ...]], index: int) -> Feed:
    return {spec.name: _random(spec, shapes[spec.name], index) for spec in network.inputs}


def _random(spec: TensorSpec, shape: tuple[int, ...], index: int) -> Shaped[np.ndarray, "..."]:
    """Return random values.

    Normal ones, or 0 and 1, which are legal token numbers, masks and lengths.
    """
    generator = stream(0, "sizes", spec.name, index)
    if spec.dtype == "str":
        return np.full(shape, "a", object)
    if spec.dtype.startswith(("float", "bfloat")):
        return generator.standard_normal(shape, dtype=np.float32).astype(spec.dtype)
    return generator.integers(0, 2, shape).astype(spec.dtype)


def _text(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
