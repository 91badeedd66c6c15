"""Labels for data that have none: what another network decides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cimrobust.engine.judged_outputs import judge

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet
    from cimrobust.onnx_io.network import Network


def labelled_by(network: Network, dataset: DataSet, *, workers: int = 1) -> DataSet:
    """Return a data set with the clean decisions of a network as its labels.

    For a regression, its values are the targets. A data set that has labels is returned as it is.

    A network that was re-trained has to be judged by the decisions of the one it came from: by its
    own it is always right, also if it decides the same for everything.

    Args:
        network: The network whose decisions are right.
        dataset: Samples.
        workers: Threads; the result does not depend on it.
    """
    if dataset.labels is not None:
        return dataset
    task = judge(network, dataset, workers=workers).task
    return replace(
        dataset,
        labels=task.labels,
        reading=replace(dataset.reading, kind="indices"),
        # The axis that the labels were chosen along: their shape may fit another one too.
        decision=(
            dataset.decision if task.axis is None else replace(dataset.decision, axis=task.axis)
        ),
        source=replace(
            dataset.source, labels_of={file.name: file.sha256 for file in network.files}
        ),
    )
