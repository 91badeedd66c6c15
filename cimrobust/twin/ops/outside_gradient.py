"""Estimated gradients of nodes that onnxruntime runs.

How it is estimated depends on what the node turns out to be, tried in this order for every input
through which a gradient is wanted:

- one output element for every input element: finite differences of all elements at once; where the
  function is flat, straight-through;
- few input elements a sample: finite differences, element by element;
- outputs of the shape of the input: straight-through;
- anything else: finite differences in a few random directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

if TYPE_CHECKING:
    from cimrobust.twin.ops.outside_runner import Runner

# Most elements of a sample that are moved one by one: each costs two runs of the node in every pass
# of a search.
_FEW = 128
_DIRECTIONS = 16
# Of the root mean square of a tensor: large enough for float32 results, whose rounding is divided
# by it.
_STEP = 2.0**-7

ELEMENTS = "finite differences"
STRAIGHT = "straight-through"
DIRECTIONS = f"finite differences in {_DIRECTIONS} random directions"


class Estimate:
    """The gradient through one input of a node."""

    def __init__(
        self,
        runner: Runner,
        values: list[Any],
        index: int,
        grads: dict[int, Float[Tensor, "..."]],
        used: set[str],
    ) -> None:
        self._runner = runner
        self._values = values
        self._index = index
        self._point: Float[Tensor, "..."] = values[index]
        self._grads = {
            place: grad.detach().cpu().numpy().astype(np.float64) for place, grad in grads.items()
        }
        self._used = used
        self._x = self._point.cpu().numpy().astype(np.float64)
        self._step = (
            _STEP * (float(np.sqrt(np.mean(np.square(self._x)))) if self._x.size else 0.0) or _STEP
        )
        self._base = self._run(self._x)

    def gradient(self) -> Float[Tensor, "..."] | None:
        """Return it, in the type and place of the input."""
        if self._index not in self._runner.fed or not self._x.size:
            return None
        found = self._by_formula()
        return torch.from_numpy(np.ascontiguousarray(found)).to(
            self._point.device, self._point.dtype
        )

    def _by_formula(self) -> Float64[np.ndarray, "..."]:
        same_shape = all(grad.shape == self._x.shape for grad in self._grads.values())
        if same_shape and self._is_elementwise():
            slopes = self._slopes(np.ones_like(self._x))
            if not self._is_flat(slopes):
                return self._take(
                    ELEMENTS, sum(slopes[place] * grad for place, grad in self._grads.items())
                )
            return self._take(STRAIGHT, sum(self._grads.values()))
        rows = self._rows()
        if self._x[:1].size * (1 if rows else len(self._x) if self._x.ndim else 1) <= _FEW:
            return self._take(ELEMENTS, self._one_by_one(rows=rows))
        if same_shape:
            return self._take(STRAIGHT, sum(self._grads.values()))
        return self._take(DIRECTIONS, self._in_directions(rows=rows))

    def _take(self, how: str, found: Any) -> Float64[np.ndarray, "..."]:
        self._used.add(how)
        return np.asarray(found, np.float64)

    def _run(self, x: Float64[np.ndarray, "..."]) -> dict[int, Float64[np.ndarray, "..."]]:
        values = list(self._values)
        values[self._index] = torch.from_numpy(x).to(self._point.dtype)
        made = self._runner(values)
        return {place: made[place].astype(np.float64) for place in self._grads}

    def _moved(
        self, direction: Float64[np.ndarray, "..."]
    ) -> dict[int, Float64[np.ndarray, "..."]]:
        return self._run(self._x + self._step * direction)

    def _slopes(
        self, direction: Float64[np.ndarray, "..."]
    ) -> dict[int, Float64[np.ndarray, "..."]]:
        """Return the change of every output along a direction, by a step.

        Zero where a step changes its shape.
        """
        up, down = self._moved(direction), self._moved(-direction)
        fits = all(
            up[place].shape == down[place].shape == grad.shape
            for place, grad in self._grads.items()
        )
        return {
            place: (up[place] - down[place]) / (2 * self._step) if fits else np.zeros_like(grad)
            for place, grad in self._grads.items()
        }

    def _is_flat(self, slopes: dict[int, Float64[np.ndarray, "..."]]) -> bool:
        """Tell whether an elementwise function only jumps.

        A shorter step meets fewer jumps, but as many slopes.
        """
        shorter = self._slopes(np.full_like(self._x, 0.25))
        moving, still_moving = (
            sum(np.count_nonzero(part) for part in parts.values()) for parts in (slopes, shorter)
        )
        return bool(still_moving * 2 <= moving)

    def _is_elementwise(self) -> bool:
        """Tell whether an element of an output depends on the same element of the input alone."""
        some = np.random.default_rng(0).integers(0, 2, self._x.shape).astype(bool)
        all_moved, some_moved = (
            self._moved(np.ones_like(self._x)),
            self._moved(some.astype(np.float64)),
        )
        return all(
            np.array_equal(
                some_moved[place],
                np.where(some, all_moved[place], self._base[place]),
                equal_nan=True,
            )
            for place in self._grads
        )

    def _rows(self) -> bool:
        """Tell whether samples, along the first axis, leave each other's outputs alone."""
        if self._x.ndim < 2 or any(
            grad.ndim < 1 or len(grad) != len(self._x) for grad in self._grads.values()
        ):
            return False
        direction = np.zeros_like(self._x)
        direction[::2] = np.random.default_rng(1).choice([-1.0, 1.0], self._x[::2].shape)
        moved = self._moved(direction)
        return all(
            np.array_equal(moved[place][1::2], self._base[place][1::2], equal_nan=True)
            for place in self._grads
        )

    def _one_by_one(self, *, rows: bool) -> Float64[np.ndarray, "..."]:
        """Return the gradient by moving one element (of every sample) after the other."""
        found: Float64[np.ndarray, "..."] = np.zeros_like(self._x)
        shape = self._x.shape[1:] if rows else self._x.shape
        for place in np.ndindex(shape):
            where = (slice(None), *place) if rows else place
            direction = np.zeros_like(self._x)
            direction[where] = 1.0
            found[where] = self._along(direction, rows=rows)
        return found

    def _in_directions(self, *, rows: bool) -> Float64[np.ndarray, "..."]:
        """Return what random directions of signs say of the gradient: it, on average."""
        found: Float64[np.ndarray, "..."] = np.zeros_like(self._x)
        random = np.random.default_rng(2)
        for _ in range(_DIRECTIONS):
            direction = random.choice([-1.0, 1.0], self._x.shape)
            along = self._along(direction, rows=rows)
            found += (
                direction
                * (along.reshape(-1, *[1] * (self._x.ndim - 1)) if rows else along)
                / _DIRECTIONS
            )
        return found

    def _along(
        self, direction: Float64[np.ndarray, "..."], *, rows: bool
    ) -> Float64[np.ndarray, "samples"] | Float64[np.ndarray, ""]:
        """Return the derivative of the loss along a direction, for each sample or for all."""
        slopes = self._slopes(direction)
        products = [np.nan_to_num(slopes[place] * grad) for place, grad in self._grads.items()]
        return np.asarray(
            sum(
                part.reshape(len(part), -1).sum(axis=1) if rows else part.sum() for part in products
            )
        )
