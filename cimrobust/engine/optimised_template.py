"""A network optimised once, for sessions that open in half the time.

onnxruntime optimises the graph of every session anew, although chips differ in their weights alone.
What it makes of the weights is most often another order of them, filled up with zeros: then the
optimised graph can be kept, and weights are put into that order. The order is read from a network
whose weights are numbers of their own places, and holds for all weights because it is found again
with others. Sessions run the same kernels on the same values, hence give the same bits. Where
weights are computed with, as where a normalisation is folded into them, there is no such template.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from cimrobust.engine.activation_sizes import activation_bytes
from cimrobust.engine.sessions import open_session, write_optimised
from cimrobust.errors import ModelNotCoveredError
from cimrobust.onnx_io.optimised_form import OptimisedForm

if TYPE_CHECKING:
    from cimrobust.onnx_io.deployed import Deployed

#: Weights above which nothing is gained: to reorder them takes as long as to optimise.
MOST_WEIGHTS = 2**20
#: Sessions after which a template is made: it costs as much as about so many save.
_WORTH_IT = 50
#: Bytes of all activations of a batch up to which memory is kept from session to session.
_MOST_KEPT = 2**24


@dataclass(frozen=True)
class _Order:
    """Where the values of an initializer of the optimised graph come from.

    Attributes:
        source: The stored weights.
        shape: Shape of the initializer.
        places: Their places there, flat; None: as they are.
        zeros: Where zeros fill it up.
    """

    source: str
    shape: tuple[int, ...]
    places: Int64[np.ndarray, "values"] | None
    zeros: Int64[np.ndarray, "zeros"]

    def of(self, weights: Float32[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
        """Return the initializer of a chip."""
        if self.places is None:
            return weights.reshape(self.shape)
        values = weights.reshape(-1).take(self.places)
        values[self.zeros] = 0.0
        return values.reshape(self.shape)


@dataclass(frozen=True)
class OptimisedTemplate:
    """An optimised network without its stored weights.

    Attributes:
        model: Serialised, what depends on stored weights marked as external.
        orders: Where that comes from, by initializer.
        shares_memory: Whether its sessions hand their memory on to each other.
    """

    model: bytes
    orders: Mapping[str, _Order]
    shares_memory: bool = False

    def open(
        self, weights: Mapping[str, Float32[np.ndarray, "..."]]
    ) -> tuple[Any, tuple[Float32[np.ndarray, "..."], ...]]:
        """Open a session with stored weights.

        Returns:
            The session, and the arrays that must stay as they are while it lives.
        """
        placed = {name: order.of(weights[order.source]) for name, order in self.orders.items()}
        session = open_session(
            self.model, weights=placed, is_optimised=True, shares_memory=self.shares_memory
        )
        return session, tuple(placed.values())


class LateTemplate:
    """The optimised template of a network, made when it begins to pay; safe to use from threads."""

    def __init__(self, template: bytes, deployed: Deployed, batch_size: int) -> None:
        """Take what it is made of.

        Args:
            template: As for `optimised_template`.
            deployed: The network.
            batch_size: Samples of one run.
        """
        self._template, self._deployed, self._batch_size = template, deployed, batch_size
        self._lock = Lock()
        self._opened, self._is_tried = 0, False
        self._made: OptimisedTemplate | None = None

    def for_next(self) -> OptimisedTemplate | None:
        """Return what the next session is opened from; None: the plain template.

        Both give the same bits, so nothing depends on when it is made, nor on whether.
        """
        if not self._is_tried and self._lock.acquire(blocking=False):
            try:
                self._opened += 1
                if not self._is_tried and self._opened > _WORTH_IT:
                    self._made = self._make()
                    self._is_tried = True
            finally:
                self._lock.release()
        return self._made

    def _make(self) -> OptimisedTemplate | None:
        try:
            made = optimised_template(self._template, self._deployed.weight_shapes)
        except (ModelNotCoveredError, OSError):
            return None
        if made is None:
            return None
        batch_bytes = self._batch_size * activation_bytes(self._deployed)
        return replace(made, shares_memory=batch_bytes <= _MOST_KEPT)


def optimised_template(
    template: bytes, shapes: Mapping[str, tuple[int, ...]]
) -> OptimisedTemplate | None:
    """Return a network optimised once; None where stored weights are more than put into order.

    Args:
        template: Serialised model whose stored weights are marked as external.
        shapes: Shapes of the stored weights.

    Raises:
        ModelNotCoveredError: onnxruntime does not write the graph.
        OSError: There is no room for a file.
    """
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    if not 0 < sum(sizes) <= MOST_WEIGHTS:
        return None
    # Exact in float32, none of them zero, and no number twice.
    starts = np.cumsum([1, *sizes]).tolist()
    numbers = {
        name: np.arange(first, end, dtype=np.float32).reshape(shape)
        for (name, shape), (first, end) in zip(shapes.items(), pairwise(starts), strict=True)
    }
    generator = np.random.default_rng(0)
    others = {name: generator.normal(size=s).astype(np.float32) for name, s in shapes.items()}
    with tempfile.TemporaryDirectory(prefix="cimrobust-") as folder:
        path = Path(folder) / "optimised.onnx"
        numbered, other = (
            OptimisedForm.parse(write_optimised(template, weights=weights, path=path))
            for weights in (numbers, others)
        )
        orders = _orders(numbered, other, dict(zip(shapes, pairwise(starts), strict=True)), others)
        if orders is None:
            return None
        made = OptimisedTemplate(other.external(list(orders)), orders)
        placed = {name: order.of(others[order.source]) for name, order in orders.items()}
        again = OptimisedForm.parse(
            write_optimised(made.model, weights=placed, path=path, is_optimised=True)
        )
    return made if _are_same(again, other) else None


def _orders(
    numbered: OptimisedForm,
    other: OptimisedForm,
    spans: Mapping[str, tuple[int, int]],
    weights: Mapping[str, Float32[np.ndarray, "..."]],
) -> dict[str, _Order] | None:
    """Return the order of weights in every initializer that has any; None where there is none.

    Args:
        numbered: Optimised with weights that are numbers of their own places.
        other: Optimised with other weights.
        spans: First number of every stored tensor, and the first one behind it.
        weights: The other weights.
    """
    if numbered.structure != other.structure:
        return None
    orders = {}
    for name, values in numbered.arrays.items():
        if _same_bits(values, other.arrays[name]):
            continue
        order = _order(values, spans) if values.dtype == np.float32 else None
        if order is None or not _same_bits(order.of(weights[order.source]), other.arrays[name]):
            return None
        orders[name] = order
    # Stored weights that are nowhere would have been folded away.
    return orders if {order.source for order in orders.values()} == set(spans) else None


def _order(
    values: Float32[np.ndarray, "..."], spans: Mapping[str, tuple[int, int]]
) -> _Order | None:
    """Return where numbered values come from; None: from no single tensor."""
    flat = values.reshape(-1)
    stored = flat[flat != 0]
    for source, (first, end) in spans.items():
        if stored.size and first <= stored.min() and stored.max() < end:
            zeros = np.flatnonzero(flat == 0)
            places = np.where(flat == 0, 0, flat - first).astype(np.int64)
            is_whole = np.array_equal(places, np.arange(end - first)) and not zeros.size
            return _Order(source, values.shape, None if is_whole else places, zeros)
    return None


def _are_same(one: OptimisedForm, other: OptimisedForm) -> bool:
    """Tell whether two forms are the same graph with the same values."""
    return one.structure == other.structure and all(
        _same_bits(values, other.arrays[name]) for name, values in one.arrays.items()
    )


def _same_bits(one: Shaped[np.ndarray, "..."], other: Shaped[np.ndarray, "..."]) -> bool:
    return (
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    )
