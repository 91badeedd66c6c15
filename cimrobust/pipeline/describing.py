"""Finding a data description for a model and a data file.

What the files tell is written down, what they do not tell is said.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cimrobust.data.decision import Decision
from cimrobust.data.description_draft import Draft, DraftInput
from cimrobust.data.graph_input import channels_moved, fits_input
from cimrobust.data.label_readings import Reading, best_reading
from cimrobust.data.load_dataset import load_data
from cimrobust.engine.judged_outputs import output_of
from cimrobust.engine.original_file import run_original
from cimrobust.errors import CimrobustError, ModelNotCoveredError, UsageError
from cimrobust.onnx_io.load_network import load_network
from cimrobust.pipeline.candidate_inputs import scaled, with_channels_moved, with_rows_turned
from cimrobust.pipeline.described_source import (
    LABEL_NAMES,
    TRIED,
    Source,
    label_array,
    read_source,
)
from cimrobust.pipeline.understanding import Understanding, understand

if TYPE_CHECKING:
    from cimrobust.array_shapes import Real
    from cimrobust.onnx_io.network import Network, TensorSpec


@dataclass(frozen=True)
class Described:
    """A description that was found.

    Attributes:
        text: The file.
        understanding: How it reads the first samples; None: it cannot be used as it is.
        problem: Why not; empty: it can.
    """

    text: str
    understanding: Understanding | None
    problem: str


def describe(model: str | Path, data: str | Path | None, *, folder: Path) -> Described:
    """Find a description.

    Args:
        model: ONNX file.
        data: .npz, .csv, .parquet, .arrow, .feather, shards (.tar), folder of images or of ONNX
            test data; None: there are none yet.
        folder: Folder that the description will be in.

    Raises:
        UsageError: The data are not of these kinds.
        InputRefusedError: A file is corrupt.
        ModelNotCoveredError: The model cannot be loaded, or takes text.
    """
    network = load_network(Path(model))
    texts = [spec.name for spec in network.inputs if spec.dtype == "str"]
    if texts:
        raise ModelNotCoveredError(
            f"graph inputs must take numbers, got text in {texts[:5]} ({model}); export the network"
            " without the nodes that make numbers of text"
        )
    if data is None:
        draft = Draft(
            None, tuple(_unfed(spec) for spec in network.inputs), None, notes=_without_data(network)
        )
        return Described(
            draft.render(),
            None,
            "no data were given: write the name of the data file and its arrays",
        )
    source = read_source(Path(str(data)), network.inputs)
    label = None if source.is_stored else label_array(source.raw.arrays)
    decided = _output_of_labels(network, source) if label is None else None
    label = label or decided
    inputs = tuple(
        _fed(spec, source, label, alone=len(network.inputs) == 1) for spec in network.inputs
    )
    draft = Draft(
        str(source.path.absolute()),
        inputs,
        label,
        decision=Decision(output=decided),
        notes=_about(source, label),
        has_stored_outputs=source.is_stored,
    )
    missing = [entry.name for entry in inputs if entry.array is None]
    unread = label_array(source.raw.unread)
    if missing or (label is None and unread is not None):
        problem = (
            f"no array fits the graph inputs {missing}"
            if missing
            else f"column '{unread}' may hold the labels and is not read, since it is of type"
            f" {source.raw.unread[str(unread)]}: save it as numbers or text"
        )
        return Described(_placed(draft, source, folder).render(), None, problem)
    draft = _with_reading(network, draft, source)
    return _finished(network, draft, source, folder)


def _finished(network: Network, draft: Draft, source: Source, folder: Path) -> Described:
    """Try the description as a file, and say what came out."""
    try:
        found = _tried(network, draft)
    except CimrobustError as err:
        noted = replace(
            draft,
            notes={
                **draft.notes,
                "decision": [*draft.notes.get("decision", ()), f"As it stands: {err}"],
            },
        )
        return Described(_placed(noted, source, folder).render(), None, str(err))
    score = found.judged.task.score(found.judged.output)
    first = (
        f"Tried on the first {score.num_samples} decisions of {found.judged.dataset.num_samples}"
        f" samples: clean {found.judged.task.metric} {score.value:.4g}."
    )
    notes = {
        **draft.notes,
        "file": [
            *draft.notes.get("file", ()),
            first,
            *(f"Warning: {text}" for text in found.warnings),
        ],
    }
    return Described(_placed(replace(draft, notes=notes), source, folder).render(), found, "")


def _placed(draft: Draft, source: Source, folder: Path) -> Draft:
    return replace(
        draft, file=Path(os.path.relpath(source.path.absolute(), folder.absolute())).as_posix()
    )


def _tried(network: Network, draft: Draft) -> Understanding:
    with _written(draft) as path:
        return understand(network, path, limit=TRIED)


@contextmanager
def _written(draft: Draft) -> Iterator[Path]:
    """Yield a file with a draft; errors name it as the description, not where it lies for now."""
    with tempfile.TemporaryDirectory(prefix="cimrobust-") as folder:
        path = Path(folder) / "data.toml"
        path.write_text(draft.render(), encoding="utf-8")
        try:
            yield path
        except CimrobustError as err:
            raise type(err)(str(err).replace(str(path), path.name)) from err


def _output_of_labels(network: Network, source: Source) -> str | None:
    """Return the first graph output that an array is named like, as those of several tasks are."""
    if source.is_stored:
        return None
    return next((spec.name for spec in network.outputs if spec.name in source.raw.arrays), None)


def _about(source: Source, label: str | None) -> dict[str, list[str]]:
    arrays = source.raw.arrays
    listed = ", ".join(
        f"'{name}' {array.dtype} {list(array.shape)}" for name, array in arrays.items()
    )
    notes = {"file": [f"Written by `cimrobust init`; holds {listed}."]}
    if source.raw.unread:
        named = ", ".join(f"'{name}' ({kind})" for name, kind in source.raw.unread.items())
        notes["file"].append(f"Columns of kinds that are not read: {named}.")
    if source.is_stored:
        notes["label"] = ["The outputs stored with the samples say what is right."]
    elif label is None:
        named = ", ".join(repr(name) for name in LABEL_NAMES[:5])
        notes["label"] = [
            (
                f"No array is named {named} or the like, so what is right could not be told: the"
                " model's own decisions without deviation are the labels, and scores count"
                " unchanged decisions."
            ),
            'If an array holds the labels, write array = "..." in place of self = true.',
        ]
    else:
        notes["label"] = [f"Array '{label}': {arrays[label].dtype} {list(arrays[label].shape)}."]
    return notes


def _without_data(network: Network) -> dict[str, list[str]]:
    output = network.outputs[0]
    return {
        "file": [
            "Written by `cimrobust init` without data. Steps that may be needed: subtract,"
            " multiply, divide, transpose, reshape; for image folders resize, crop."
        ],
        "label": [
            'Without labels the model\'s own decisions are right. With labels: array = "y", and'
            " classes, first or ignore where they are coded in another way."
        ],
        "decision": [
            f"The first output is '{output.name}', {output.dtype} {_shown(output)}; other readings:"
            " argmin, topk, threshold, label, value."
        ],
    }


def _shown(spec: TensorSpec) -> str:
    return (
        "of unknown shape"
        if spec.shape is None
        else str([dim if dim is not None else "?" for dim in spec.shape]).replace("'", "")
    )


def _unfed(spec: TensorSpec) -> DraftInput:
    return DraftInput(
        spec.name,
        f"Graph input '{spec.name}': {spec.dtype} {_shown(spec)}.",
        None,
        spec.dtype,
        note="Which array is it?",
    )


def _fed(spec: TensorSpec, source: Source, label: str | None, *, alone: bool) -> DraftInput:
    """Return what a graph input gets from the arrays of a file."""
    arrays = {
        name: array
        for name, array in source.raw.arrays.items()
        if name != label and array.ndim and array.dtype.kind in "biuf"
    }
    ordered = [name for name in (spec.name, *(("x",) if alone else ())) if name in arrays]
    ordered += [name for name in arrays if name not in ordered and alone]
    fitting = [
        (name, steps)
        for name in ordered
        if (steps := _steps_for(arrays[name].shape[1:], spec)) is not None
        or (steps := _steps_of_image(name, source, spec)) is not None
    ]
    if not fitting:
        held = ", ".join(f"'{name}' {list(array.shape)}" for name, array in arrays.items())
        return replace(
            _unfed(spec), note=f"No array fits by name and shape; the file holds {held}."
        )
    name, steps = fitting[0]
    array = arrays[name]
    says = (
        f"Graph input '{spec.name}': {spec.dtype} {_shown(spec)}; array '{name}': {array.dtype}"
        f" {list(array.shape)}, {_range(array)}."
    )
    others = [other for other, _ in fitting[1:] if other != name]
    note = f"Other arrays fit too: {', '.join(others)}." if others else ""
    return DraftInput(spec.name, says, name, spec.dtype, (*source.image_steps, *steps), note)


def _range(array: Real[np.ndarray, "..."]) -> str:
    return f"{float(array.min()):g} to {float(array.max()):g}" if array.size else "empty"


def _steps_for(sample: tuple[int, ...], spec: TensorSpec) -> tuple[Mapping[str, Any], ...] | None:
    """Return the steps that make samples fit a graph input; None: nothing simple does."""
    if fits_input(sample, spec):
        return ()
    perm = channels_moved(sample, spec)
    if perm is not None:
        return ({"op": "transpose", "perm": perm},)
    shape = None if spec.shape is None else spec.shape[1:]
    if (
        shape
        and all(isinstance(dim, int) for dim in shape)
        and int(np.prod([int(str(dim)) for dim in shape])) == int(np.prod(sample))
    ):
        return ({"op": "reshape", "shape": [int(str(dim)) for dim in shape]},)
    return None


def _steps_of_image(
    name: str, source: Source, spec: TensorSpec
) -> tuple[Mapping[str, Any], ...] | None:
    """Return the steps that make images fit a graph that takes other colours than they have.

    None where they do not help.
    """
    sample, array = source.raw.arrays[name].shape[1:], source.raw.arrays[name]
    if name not in source.raw.images or array.dtype != np.uint8:
        return None
    op, shape = ("colour", (*sample, 3)) if len(sample) == 2 else ("grey", sample[:2])
    steps = _steps_for(shape, spec)
    return None if steps is None else ({"op": op}, *steps)


def _with_reading(network: Network, draft: Draft, source: Source) -> Draft:
    """Return a draft with scaling, label coding and decision that fit best, and its doubts."""
    found: list[tuple[Draft, Reading]] = []
    problem = ""
    for layouts in (
        (draft, *with_rows_turned(draft, source)),
        with_channels_moved(draft, source),
    ):
        for candidate in (other for layout in layouts for other in scaled(layout, source)):
            try:
                found.append((candidate, _reading(network, candidate, source)))
            except CimrobustError as err:
                problem = problem or str(err)
        if found:
            break
    if not found:
        return replace(
            draft,
            notes={
                **draft.notes,
                "decision": [f"How the output is read could not be told: {problem}"],
            },
        )
    best = max(found, key=lambda pair: (pair[1].quality, -len(pair[0].inputs[0].steps)))
    chosen, reading = best
    decision = replace(reading.decision, output=reading.output)
    notes = {
        key: [*draft.notes.get(key, ()), *reading.notes.get(key, ())]
        for key in {*draft.notes, *reading.notes}
    }
    inputs = tuple(_scale_note(entry, found, best) for entry in chosen.inputs)
    return replace(chosen, inputs=inputs, reading=reading.labels, decision=decision, notes=notes)


def _scale_note(
    entry: DraftInput, found: Sequence[tuple[Draft, Reading]], best: tuple[Draft, Reading]
) -> DraftInput:
    """Say what the samples score scaled in another way, where they can be."""
    if not any(step["op"] == "divide" for draft, _ in found for step in draft.inputs[0].steps):
        return entry
    scores = {
        next(
            (
                f"divided by {step['value']}"
                for step in draft.inputs[0].steps
                if step["op"] == "divide"
            ),
            "as stored",
        ): reading.score
        for draft, reading in found
    }
    listed = ", ".join(f"{name} {score:.4g}" for name, score in scores.items())
    note = (
        "Whole numbers: how the network's training scaled them cannot be told; clean scores"
        f" {listed}. Mean and standard deviation may be missing:"
    )
    return replace(
        entry,
        options=(
            *entry.options,
            note,
            (
                'steps = [..., { op = "subtract", value = [...] }, { op = "divide", value = [...]'
                " }, ...]"
            ),
        ),
    )


def _reading(network: Network, draft: Draft, source: Source) -> Reading:
    """Run the samples of a draft and find how labels and output fit."""
    with _written(replace(draft, label=None, has_stored_outputs=False, notes={})) as path:
        dataset = load_data(path, inputs=network.inputs, limit=TRIED)
    labels = None
    if draft.label is not None:
        stored = source.raw.arrays[draft.label]
        if stored.ndim == 0 or len(stored) < dataset.num_samples:
            raise UsageError(
                f"labels must be as many as samples, got shape {list(stored.shape)} for"
                f" {dataset.num_samples} samples (array '{draft.label}'); check the arrays"
            )
        labels = stored[: dataset.num_samples]
    if draft.has_stored_outputs:
        dataset = load_data(source.path, inputs=network.inputs, limit=TRIED)
    output = output_of(network.outputs, dataset.decision)
    values = run_original(network, dataset.inputs, dataset.constants, output=output)
    return best_reading(network, dataset, labels, source.raw.folders, output, values)
