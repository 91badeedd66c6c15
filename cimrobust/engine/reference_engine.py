"""The kernel checked inside a network.

What every product gives is computed again, for some of its vectors, by the NumPy reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from cimrobust.engine import crossbar_reference as reference
from cimrobust.engine.fields import fields_at, spread
from cimrobust.errors import SelfCheckError

if TYPE_CHECKING:
    from cimrobust.engine.array_plan import PlannedArray
    from cimrobust.engine.crossbar_product import ConvGeometry, Crossbar, ReadNoise
    from cimrobust.engine.kernel_engine import KernelEngine, Weights

# Vectors of a product that are computed again, and calls of it (recurrent layers make one a step).
_VECTORS = 6
_CALLS = 2


@dataclass(frozen=True)
class ReferenceCheck:
    """The kernel against the reference.

    Attributes:
        products: Products of the network compared.
        values: Outputs compared, all equal bit for bit.
    """

    products: int
    values: int


class _Checked:
    """A product whose first results are computed again."""

    def __init__(
        self,
        array: PlannedArray,
        product: Crossbar,
        planes: list[Float32[np.ndarray, "cells"]],
        noise: ReadNoise | None,
    ) -> None:
        self.values = 0
        self._array = array
        self._product = product
        self._planes = planes
        self._noise = noise
        self._calls = 0

    def conv(
        self,
        x: Float32[np.ndarray, "batch channels depth height width"],
        geometry: ConvGeometry,
        *,
        first_vector: int = 0,
        threads: int = 1,
    ) -> Float32[np.ndarray, "batch columns out_depth out_height out_width"]:
        """Return a convolution."""
        y = self._product.conv(x, geometry, first_vector=first_vector, threads=threads)
        per_image = math.prod(geometry.out_size)
        positions = spread(len(x) * per_image, _VECTORS)
        flat = y.reshape(len(x), y.shape[1], per_image)
        got = flat[positions // per_image, :, positions % per_image]
        self._compare(
            fields_at(x, geometry, positions).reshape(len(positions), -1),
            positions + first_vector,
            got,
        )
        return y

    def vectors(
        self, x: Float32[np.ndarray, "vectors rows"], *, first_vector: int = 0, threads: int = 1
    ) -> Float32[np.ndarray, "vectors columns"]:
        """Return products of vectors."""
        y = self._product.vectors(x, first_vector=first_vector, threads=threads)
        positions = spread(len(x), _VECTORS)
        self._compare(np.ascontiguousarray(x[positions]), positions + first_vector, y[positions])
        return y

    def _compare(
        self,
        vectors: Float32[np.ndarray, "some rows"],
        numbers: Int64[np.ndarray, "some"],
        got: Float32[np.ndarray, "some columns"],
    ) -> None:
        self._calls += 1
        if self._calls > _CALLS:
            return
        array, layout = self._array, self._array.use.layout
        codings = (array.input_coding, array.output_coding)
        if self._noise is None:
            expected = reference.vectors(vectors, layout, self._planes, *codings)
        else:
            rows = [
                reference.vectors(
                    vector[None],
                    layout,
                    self._planes,
                    *codings,
                    noise=self._noise,
                    first_vector=int(number),
                )
                for vector, number in zip(vectors, numbers, strict=True)
            ]
            expected = np.concatenate(rows) if rows else got
        if not np.array_equal(expected, got, equal_nan=True):
            raise SelfCheckError(
                "the kernel must give the bits of the NumPy reference, got a difference of"
                f" {np.abs(expected - got).max():g} (product '{array.use.key}'); report this model"
            )
        self.values += got.size


def check_against_reference(
    engine: KernelEngine,
    weights: Weights,
    inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]],
    constants: Mapping[str, Shaped[np.ndarray, "..."]],
) -> ReferenceCheck:
    """Run a chip on some samples and compute some vectors of every product again in NumPy.

    Raises:
        SelfCheckError: A product differs.
    """
    checked: dict[str, _Checked] = {}
    for key, (array, product, planes, noise) in engine.products(weights).items():
        checked[key] = _Checked(array, product, planes, noise)
    with engine.open_with(checked) as network:
        network.run(inputs, constants)
    return ReferenceCheck(len(checked), sum(product.values for product in checked.values()))
