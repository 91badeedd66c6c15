"""A part of a subject: some of the samples, some of the layers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from cimrobust.engine.subject import Subject
from cimrobust.mapping.box import Box


def part_of(subject: Subject, part: Int64[np.ndarray, "some"], *, workers: int = 1) -> Subject:
    """Return the subject with some of the samples only.

    Its scores without deviation are those of these samples.

    Args:
        subject: The network, its data, and where its weights are stored.
        part: Indices of the samples.
        workers: Threads; the result does not depend on it.
    """
    runtime, placement = subject.runtime, subject.placement
    dataset, task = runtime.dataset, replace(runtime.task, labels=runtime.task.labels[part])
    clean_output, nominal = runtime.clean_output[part], placement.nominal()
    taken = replace(
        dataset,
        inputs={name: array[part] for name, array in dataset.inputs.items()},
        labels=None if dataset.labels is None else dataset.labels[part],
    )
    quantised = task.score(
        runtime.plain.run(nominal, taken.inputs, taken.constants, threads=workers)
    )
    converters = runtime.converters
    if converters is not None:
        score = task.score(
            runtime.engine.run(nominal, taken.inputs, taken.constants, threads=workers)
        )
        converters = replace(converters, score=score)
    some = replace(
        runtime,
        task=task,
        dataset=taken,
        clean=task.score(clean_output),
        clean_output=clean_output,
        quantised=quantised,
        converters=converters,
    )
    return Subject(some, placement)


def restricted(box: Box, names: Collection[str]) -> Box:
    """Return the box in which only some initializers may deviate."""
    return Box(
        nominal=box.nominal,
        lo={
            name: array if name in names else np.zeros_like(array) for name, array in box.lo.items()
        },
        hi={
            name: array if name in names else np.zeros_like(array) for name, array in box.hi.items()
        },
    )
