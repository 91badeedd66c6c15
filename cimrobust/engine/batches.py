"""How samples are fed to a network: batch plan, padding, and putting the outputs together again.

onnxruntime may round differently at another batch size, so the plan is a function of the model and
the number of samples alone, never of timing or thread count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Shaped

from cimrobust.data.casting import cast
from cimrobust.engine.parallel import check_stopped, map_ordered
from cimrobust.errors import UsageError
from cimrobust.onnx_io.shapes import infer_types

if TYPE_CHECKING:
    from cimrobust.onnx_io.deployed import Deployed
    from cimrobust.onnx_io.network import TensorSpec
    from cimrobust.onnx_io.shapes import TensorType

# Two of the largest activations of one batch should fit a core's second-level cache (2 MiB), and
# small networks need enough samples to outweigh the cost of a call: on each of the twelve networks
# of the model zoo, this choice is near the best power of two.
_CACHE_BYTES = 2**20
_MOST_SAMPLES = 256
_FEWEST_SAMPLES = 16
# Bound of one activation where even the fewest samples are too many for the cache (memory of a run
# is a few times this, per worker).
_MEMORY_BYTES = 128 * 2**20

Feed = dict[str, Shaped[np.ndarray, "..."]]


@dataclass(frozen=True)
class Feeding:
    """How many samples one run takes.

    Attributes:
        mode: ``free``: any number up to `size`; ``fixed``: exactly `size`, the last batch is
            padded; ``none``: there is no sample axis.
        size: Samples a run; 1 for ``none``.
    """

    mode: Literal["free", "fixed", "none"]
    size: int

    def plan(self, num_samples: int) -> list[slice]:
        """Split samples into consecutive batches.

        Full ones where the size is fixed, else as even as possible.
        """
        if self.mode != "free":
            return [
                slice(start, min(start + self.size, num_samples))
                for start in range(0, num_samples, self.size)
            ]
        count = math.ceil(num_samples / self.size)
        return [
            slice(index * num_samples // count, (index + 1) * num_samples // count)
            for index in range(count)
        ]


def automatic_batch_size(deployed: Deployed) -> int:
    """Return the batch size for a network that takes any number of samples.

    A function of the graph alone.
    """
    types = infer_types(deployed.model, strict=False)
    stored = frozenset(tensor.name for tensor in deployed.model.graph.initializer)
    return free_batch_size(types, stored, deployed.inputs)


def free_batch_size(
    types: Mapping[str, TensorType], stored: frozenset[str], inputs: Sequence[TensorSpec]
) -> int:
    """Choose the batch size of a network that takes any, from the size of its activations.

    Args:
        types: Type and shape of the tensors of the graph, as far as inference can tell.
        stored: Names that are no activations (initializers).
        inputs: Graph inputs.

    Returns:
        A power of two from 16 to 256, less only where one activation of 16 samples would pass 128
        MiB.
    """
    shapes = [kind.shape for name, kind in types.items() if name not in stored and kind.shape]
    unknown_size = any(
        spec.shape is None or not all(isinstance(dim, int) for dim in spec.shape[1:])
        for spec in inputs
    )
    if unknown_size or not shapes:
        return _FEWEST_SAMPLES
    sample_bytes = 4 * max(
        math.prod(dim for dim in shape[1:] if isinstance(dim, int)) for shape in shapes
    )
    most = _MEMORY_BYTES // max(sample_bytes, 1)
    if most < _FEWEST_SAMPLES:
        return max(1, most)
    fitting = max(_FEWEST_SAMPLES, min(_MOST_SAMPLES, _CACHE_BYTES // max(sample_bytes, 1)))
    return 1 << (fitting.bit_length() - 1)


def feeding_of_file(
    inputs: Sequence[TensorSpec],
    samples: Mapping[str, Shaped[np.ndarray, "samples ..."]],
    free_size: int,
    *,
    apart: bool = False,
) -> Feeding:
    """Tell how the samples go into a graph as it is in its file.

    A graph input of the rank of the sample array has a sample axis in front, fixed if the file
    gives a number; one of the rank of a single sample has none.

    Args:
        inputs: Graph inputs.
        samples: Samples by graph input.
        free_size: Samples a run where the graph takes any number.
        apart: Samples of one batch would change each other's results, so that where the graph takes
            any number each is run alone.

    Raises:
        UsageError: Inputs disagree, or an array fits neither way.
    """
    modes = {
        spec.name: _feeding_of_input(spec, samples[spec.name], free_size)
        for spec in inputs
        if spec.name in samples
    }
    fixed = {feeding for feeding in modes.values() if feeding.mode != "free"}
    if len(fixed) > 1:
        listed = ", ".join(
            f"{name}: {feeding.mode} {feeding.size}" for name, feeding in modes.items()
        )
        raise UsageError(
            f"graph inputs must agree on the sample axis, got {listed} (data set); describe shared"
            " arrays as constant inputs"
        )
    return next(iter(fixed), Feeding("fixed", 1) if apart else Feeding("free", free_size))


def _feeding_of_input(
    spec: TensorSpec, array: Shaped[np.ndarray, "samples ..."], free_size: int
) -> Feeding:
    if spec.shape is None:
        return Feeding("free", free_size)
    if len(spec.shape) == array.ndim - 1:
        return Feeding("none", 1)
    if len(spec.shape) != array.ndim:
        raise UsageError(
            f"samples of graph input '{spec.name}' must have rank {len(spec.shape) - 1} or"
            f" {len(spec.shape)}, got shape {array.shape[1:]} (data set); reshape them in the data"
            " description"
        )
    first = spec.shape[0]
    return Feeding("fixed", first) if isinstance(first, int) else Feeding("free", free_size)


def check_inputs(inputs: Sequence[TensorSpec], given: Sequence[str]) -> None:
    """Check that arrays are given for exactly the graph's inputs.

    Raises:
        UsageError: Lists missing and unknown names.
    """
    names = [spec.name for spec in inputs]
    missing, unknown = sorted(set(names) - set(given)), sorted(set(given) - set(names))
    if missing or unknown:
        raise UsageError(
            f"data set must give exactly the graph inputs {names}, got {sorted(given)} (missing"
            f" {missing}, unknown {unknown}); name every graph input in the data description"
        )


def check_shared_sizes(
    inputs: Sequence[TensorSpec],
    names: Sequence[str],
    samples: Mapping[str, Shaped[np.ndarray, "samples ..."]],
    constants: Mapping[str, Shaped[np.ndarray, "..."]],
) -> None:
    """Check that axes of inputs have one size where the network as it was read depends on that.

    Args:
        inputs: Graph inputs.
        names: Names of axes that must have one size each.
        samples: Per graph input the samples, along the first axis.
        constants: Arrays that every run gets as they are.

    Raises:
        UsageError: An axis has several sizes.
    """
    for name in names:
        sizes: dict[str, int | str] = {}
        for spec in inputs:
            array = samples.get(spec.name, constants.get(spec.name))
            if spec.shape is None or array is None:
                continue
            shape: list[int | str] = list(array.shape[array.ndim - len(spec.shape) :])
            if spec.name in samples and array.ndim == len(spec.shape):
                shape[0] = "the samples of a batch"
            sizes.update(
                (f"axis {axis} of '{spec.name}'", shape[axis])
                for axis, dim in enumerate(spec.shape)
                if dim == name
            )
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{where}: {size}" for where, size in sizes.items())
            raise UsageError(
                f"axes that the model calls '{name}' must have one size, since its branches depend"
                f" on that, got {listed} (data set); feed arrays of one size, or give the axes"
                " names of their own in the model"
            )


def cast_inputs(
    inputs: Sequence[TensorSpec], arrays: Mapping[str, Shaped[np.ndarray, "..."]]
) -> Feed:
    """Return the arrays in the graph's element types, contiguous.

    No copy of those that are already.

    Raises:
        UsageError: A value does not fit the type, or NumPy has no such type.
    """
    return {
        spec.name: cast(arrays[spec.name], spec.dtype, f"graph input '{spec.name}'")
        for spec in inputs
        if spec.name in arrays
    }


def run_batches(
    run: Callable[[Feed, slice], Shaped[np.ndarray, "..."]],
    inputs: Feed,
    constants: Feed,
    feeding: Feeding,
    *,
    threads: int = 1,
) -> Shaped[np.ndarray, "samples ..."]:
    """Run all samples and return one output with the samples along the first axis.

    Args:
        run: Feeds one batch, the samples of the slice given, and returns the decision output;
            called from several threads.
        inputs: Per graph input the samples, along the first axis.
        constants: Arrays fed as they are in every run.
        feeding: How many samples a run takes.
        threads: Batches run at the same time; the result does not depend on it.

    Raises:
        UsageError: The output has no sample axis in front, or its size depends on the sample.
    """
    num_samples = next(iter(inputs.values())).shape[0]
    batches = feeding.plan(num_samples)
    outputs = list(
        map_ordered(
            partial(_run_batch, run, inputs, constants, feeding),
            batches,
            workers=min(threads, len(batches)),
        )
    )
    shapes = sorted({output.shape[1:] for output in outputs})
    if len(shapes) > 1:
        raise UsageError(
            "decision output must have one shape for all samples, got another shape for every"
            f" sample, such as {list(shapes[0])} and {list(shapes[-1])} (decision); choose another"
            " [decision] output"
        )
    return np.concatenate(outputs)


def first_batch(inputs: Feed, feeding: Feeding) -> Feed:
    """Return what the first run of `run_batches` is fed, constants left out."""
    num_samples = next(iter(inputs.values())).shape[0]
    return dict(_feed(inputs, feeding, feeding.plan(num_samples)[0]))


def _run_batch(
    run: Callable[[Feed, slice], Shaped[np.ndarray, "..."]],
    inputs: Feed,
    constants: Feed,
    feeding: Feeding,
    batch: slice,
) -> Shaped[np.ndarray, "some ..."]:
    check_stopped()
    count = batch.stop - batch.start
    output = np.asarray(run(dict(_feed(inputs, feeding, batch), **constants), batch))
    if feeding.mode == "none" or (
        feeding.mode == "fixed" and feeding.size == 1 and output.shape[:1] != (1,)
    ):
        return output[None]
    expected = feeding.size if feeding.mode == "fixed" else count
    if output.shape[:1] != (expected,):
        raise UsageError(
            "decision output must have one entry a sample along its first axis, got shape"
            f" {output.shape} for {expected} samples (decision); choose another output"
        )
    return output[:count]


def _feed(
    inputs: Feed, feeding: Feeding, batch: slice
) -> Iterator[tuple[str, Shaped[np.ndarray, "..."]]]:
    for name, array in inputs.items():
        if feeding.mode == "none":
            yield name, array[batch.start]
        elif feeding.mode == "fixed" and batch.stop - batch.start < feeding.size:
            yield (
                name,
                np.take(
                    array,
                    np.arange(batch.start, batch.start + feeding.size) % array.shape[0],
                    axis=0,
                ),
            )
        else:
            yield name, array[batch]
