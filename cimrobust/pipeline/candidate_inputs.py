"""Other ways in which a draft's arrays may be what its graph takes.

What a graph states often fits several: channels first or last, bytes or shares of 1. Running the
network on each tells which fits the labels best.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cimrobust.data.graph_input import CHANNELS_MOVED
from cimrobust.data.images import IMAGE_STEPS

if TYPE_CHECKING:
    from cimrobust.data.description_draft import Draft, DraftInput
    from cimrobust.pipeline.described_source import Source

# Largest number that whole numbers of a type scale to 1 by, where graphs take reals.
_LARGEST = {"uint8": 255, "uint16": 65535}
_COLOURS = 3
_ROWS = "Rows of numbers: this order of channels, height and width fits the labels best. Check it."


def with_rows_turned(draft: Draft, source: Source) -> Iterator[Draft]:
    """Yield the draft with rows of numbers read as pictures whose channels lie the other way round.

    Only where labels tell which is right, and the graph takes pictures in colour.
    """
    if draft.label is None:
        return
    inputs = tuple(
        replace(entry, steps=(*entry.steps[:-1], *steps), options=(*entry.options, _ROWS))
        if entry.array is not None
        and source.raw.arrays[entry.array].ndim == 2
        and entry.steps
        and (steps := _other_order(entry.steps[-1])) is not None
        else entry
        for entry in draft.inputs
    )
    if inputs != draft.inputs:
        yield replace(draft, inputs=inputs)


def _other_order(step: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...] | None:
    """Return the steps that make the same shape of rows with channels in another place."""
    shape = list(step.get("shape", ()))
    if len(shape) != 3 or (shape[0] == _COLOURS) == (shape[2] == _COLOURS):
        return None
    first = shape[0] == _COLOURS
    turned = [*shape[1:], shape[0]] if first else [shape[2], *shape[:2]]
    perm = CHANNELS_MOVED[0 if first else 1]
    return ({"op": "reshape", "shape": turned}, {"op": "transpose", "perm": perm})


def with_channels_moved(draft: Draft, source: Source) -> Iterator[Draft]:
    """Yield the draft with channels last where they are first, and the other way round.

    A graph that states no sizes does not say which it takes; running it does.
    """
    for perm in CHANNELS_MOVED:
        turned = tuple(
            replace(entry, steps=(*entry.steps, {"op": "transpose", "perm": perm}))
            if entry.array is not None
            and source.raw.arrays[entry.array].ndim == len(perm)
            and not any(step["op"] in ("transpose", "reshape") for step in entry.steps)
            else entry
            for entry in draft.inputs
        )
        if turned != draft.inputs:
            yield replace(draft, inputs=turned)


def scaled(draft: Draft, source: Source) -> Iterator[Draft]:
    """Yield the draft as it is, and with bytes divided by 255 where the graph takes reals.

    Whole numbers of 16 bits without sign are divided by 65535.
    """
    yield draft
    whole = [
        entry
        for entry in draft.inputs
        if entry.array is not None
        and entry.dtype.startswith("float")
        and source.raw.arrays[entry.array].dtype.name in _LARGEST
    ]
    if whole:
        yield replace(
            draft,
            inputs=tuple(
                _divided(entry, source) if entry in whole else entry for entry in draft.inputs
            ),
        )


def _divided(entry: DraftInput, source: Source) -> DraftInput:
    """Return an input whose numbers are scaled to go up to 1, behind the steps of images."""
    divide = {"op": "divide", "value": _LARGEST[source.raw.arrays[str(entry.array)].dtype.name]}
    first = tuple(step for step in entry.steps if step["op"] in IMAGE_STEPS)
    rest = tuple(step for step in entry.steps if step["op"] not in IMAGE_STEPS)
    return replace(entry, steps=(*first, divide, *rest))
