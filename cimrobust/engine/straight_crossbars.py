"""Crossbars with their converters inside the torch twin.

The value of a crossbar node is the kernel's, so it has the codes of every bit line, bit for bit.
Its gradient is that of the node's own torch form with the offset of its levels, which the rounding
of the bit lines lets through (straight through: Bengio, Leonard, Courville, arXiv 1308.3432).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from cimrobust.engine.input_offset import with_offset
from cimrobust.engine.nodes import Multiplier, run_node
from cimrobust.onnx_io.crossbar_nodes import CrossbarNode
from cimrobust.twin.ops.surrogate import surrogate

if TYPE_CHECKING:
    from cimrobust.engine.kernel_engine import KernelEngine
    from cimrobust.twin.ops.converter_registry import Kernel, Node
    from cimrobust.twin.ops.program import Wrapper

_FLOAT32 = 4
# Arrays of float64 that hold every device of a layer while it is programmed: levels, both ends,
# fractions, and what they are gathered from.
_WHILE_PROGRAMMED = 5 * 8


class StraightCrossbars:
    """The crossbar nodes of a network, for its twin; safe to use from many threads.

    Read noise is left out: every read draws another, and none of them is the chip's.
    """

    def __init__(self, engine: KernelEngine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._local = threading.local()
        # What was programmed last: its name, the weights, the products.
        self._last: (
            tuple[object, Mapping[str, Float[Tensor, "..."]], Mapping[str, Multiplier]] | None
        ) = None

    @property
    def is_whole(self) -> bool:
        """Whether nodes give what they give on the chip: there is no read noise."""
        return all(array.variances is None for array in self._engine.arrays.values())

    @property
    def num_bytes(self) -> int:
        """Bytes of the products of one chip, and of the largest layer while it is programmed."""
        held = sum(
            array.use.layout.rows
            * array.use.layout.num_columns
            * len(array.output_coding.gain)
            * _FLOAT32
            for array in self._engine.arrays.values()
        )
        largest = max(
            (
                tensor.cells_per_weight * tensor.num_weights
                for tensor in self._engine.placement.tensors.values()
            ),
            default=0,
        )
        return held + _WHILE_PROGRAMMED * largest

    def wrappers(self) -> dict[str, Wrapper]:
        """Return by name of a node what puts the crossbar into its kernel, see `to_torch`."""
        return {
            step.name: partial(self._through, step)
            for step in self._engine.plan.steps
            if isinstance(step, CrossbarNode)
        }

    @contextmanager
    def programmed(self, weights: Mapping[str, Float[Tensor, "..."]]) -> Iterator[None]:
        """Let the nodes that this thread runs multiply with these weights.

        Args:
            weights: Every mapped initializer, inside the tolerance box.
        """
        self._local.products = self._products(weights)
        try:
            yield
        finally:
            self._local.products = None

    def _products(self, weights: Mapping[str, Float[Tensor, "..."]]) -> Mapping[str, Multiplier]:
        """Return the products of a chip, programmed once for all pieces of a pass."""
        # Tensors are told apart by where they are: what was programmed last is held, so that no
        # other tensor can be there, and a change in place counts up the version.
        name = tuple(
            (key, tensor.data_ptr(), tensor._version) for key, tensor in sorted(weights.items())
        )
        with self._lock:
            if self._last is None or self._last[0] != name:
                self._last = None
                held = {key: tensor.detach() for key, tensor in weights.items()}
                made = self._engine.quiet_products(
                    {key: _array(tensor) for key, tensor in held.items()}
                )
                self._last = (name, held, made)
            return self._last[2]

    def _through(self, step: CrossbarNode, node: Node, own: Kernel) -> Kernel:
        """Return the kernel of a node: its value from the crossbar, its gradient from its own."""
        stored = {operand.slot for operand in step.operands}
        bias_inside = step.name in self._engine.biased_nodes
        kernel = with_offset(self._engine, step, own)

        def run(*inputs: Any) -> Any:
            if node.settings.softened:
                return kernel(*inputs)
            given = [
                None if slot in stored or value is None else _array(value)
                for slot, value in enumerate(inputs)
            ]
            values = run_node(step, given, self._local.products, bias_inside=bias_inside)
            held = [_tensor(value, like=inputs[0]) for value in values]
            if not torch.is_grad_enabled():
                return held[0] if len(held) == 1 else tuple(held)
            paths = kernel(*inputs)
            if not isinstance(paths, tuple):
                return surrogate(held[0], paths)
            return tuple(
                None if path is None else surrogate(value, path)
                for value, path in zip(held, paths, strict=False)
            )

        return run


def _array(value: Shaped[Tensor, "..."]) -> Shaped[np.ndarray, "..."]:
    array: Shaped[np.ndarray, "..."] = value.detach().cpu().numpy()
    return array


def _tensor(
    value: Float32[np.ndarray, "..."], *, like: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """Return a value of the kernel where the twin computes, in its type."""
    return torch.from_numpy(np.require(value, requirements=["C", "W"])).to(like.device, like.dtype)
