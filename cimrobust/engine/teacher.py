"""Labels for data that have none: what another network decides."""

from __future__ import annotations

from dataclasses import replace

from cimrobust.data.dataset import DataSet
from cimrobust.data.task import make_task
from cimrobust.engine.batches import cast_inputs
from cimrobust.engine.ort import decision_output, run_original
from cimrobust.graph.network import Network


def labelled_by(network: Network, dataset: DataSet, *, workers: int = 1) -> DataSet:
    """Return a data set with the clean decisions of a network as its labels (for a regression its values as targets); one that has labels as it is.

    A network that was re-trained has to be judged by the decisions of the one it came from: by its own it is always right, also if it decides the same for everything.

    Args:
        network: The network whose decisions are right.
        dataset: Samples.
        workers: Threads; the result does not depend on it.
    """
    if dataset.labels is not None:
        return dataset
    output = decision_output(network.outputs, dataset.decision.output)
    ready = replace(dataset, inputs=cast_inputs(network.inputs, dataset.inputs), constants=cast_inputs(network.inputs, dataset.constants))
    decided = make_task(ready, run_original(network, ready.inputs, ready.constants, output=output, threads=workers)).labels
    source = replace(dataset.source, labels_of={file.name: file.sha256 for file in network.files})
    return replace(dataset, labels=decided, source=source)
