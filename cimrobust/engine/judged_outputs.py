"""The model file run on its samples, and its decision output read: where every run begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.data.class_axis import AxisHint
from cimrobust.data.dataset import DataSet
from cimrobust.data.fitted_task import make_task
from cimrobust.data.labels import is_text
from cimrobust.data.task import Task
from cimrobust.engine.batches import cast_inputs
from cimrobust.engine.original_file import decision_output, run_original
from cimrobust.onnx_io.output_axis import output_axis

if TYPE_CHECKING:
    from cimrobust.data.decision import Decision, LabelReading, LabelValue
    from cimrobust.onnx_io.network import Network, TensorSpec

_LABEL_RANK = 2


@dataclass(frozen=True)
class Judged:
    """A model file with its data.

    Attributes:
        dataset: Samples in the graph's element types, the decision output named.
        output: Decision output of the model file, samples first.
        task: Reads and scores it.
    """

    dataset: DataSet
    output: Shaped[np.ndarray, "samples ..."]
    task: Task


def judge(network: Network, dataset: DataSet, *, workers: int = 1) -> Judged:
    """Run a model file on all samples and fit the labels to its decision output.

    Args:
        network: The network as loaded.
        dataset: Samples and labels.
        workers: Threads; the result does not depend on it.

    Raises:
        UsageError: The data set does not fit the graph, or its output; there is no such output.
    """
    output = output_of(network.outputs, dataset.decision)
    names = [spec.name for spec in network.outputs]
    ready = replace(
        dataset.for_output(output, names.index(output)),
        inputs=cast_inputs(network.inputs, dataset.inputs),
        constants=cast_inputs(network.inputs, dataset.constants),
        decision=replace(dataset.decision, output=output),
    )
    ready = replace(ready, reading=_keyed(ready, network.map_keys.get(output)))
    found = run_original(network, ready.inputs, ready.constants, output=output, threads=workers)
    shown = output_axis(network.model, output) if ready.reading.kind == "stored" else None
    hint = None if shown is None else AxisHint(*shown)
    return Judged(ready, found, make_task(ready, found, hint=hint))


def _keyed(dataset: DataSet, keys: tuple[LabelValue, ...] | None) -> LabelReading:
    """Return how labels are coded.

    Where the description lists no labels, those that the file itself maps to scores are used.
    """
    reading, labels = dataset.reading, dataset.labels
    if (
        keys is None
        or labels is None
        or reading.kind != "given"
        or reading.classes is not None
        or reading.first is not None
    ):
        return reading
    is_named = isinstance(keys[0], str)
    if is_named != is_text(labels) or keys == tuple(range(len(keys))):
        return reading
    return replace(reading, classes=keys)


def output_of(outputs: Sequence[TensorSpec], decision: Decision) -> str:
    """Return the name of the output that decisions are read from.

    Without a name that is the first; where the first holds one label a sample and one other output
    alone holds scores, as classifiers of scikit-learn are exported, it is those scores.

    Raises:
        UsageError: There is no output of the name given.
    """
    if decision.output is None and decision.chooses and _holds_labels(outputs[0]):
        scores = [spec for spec in outputs[1:] if _holds_scores(spec)]
        if len(scores) == 1:
            return scores[0].name
    return decision_output(tuple(outputs), decision.output)


def _holds_labels(spec: TensorSpec) -> bool:
    is_flat = spec.shape is not None and (
        len(spec.shape) < _LABEL_RANK or (len(spec.shape) == _LABEL_RANK and spec.shape[1] == 1)
    )
    return is_flat and not spec.dtype.startswith(("float", "bfloat"))


def _holds_scores(spec: TensorSpec) -> bool:
    return (
        spec.dtype.startswith("float")
        and spec.shape is not None
        and len(spec.shape) >= _LABEL_RANK
        and spec.shape[1] != 1
    )
