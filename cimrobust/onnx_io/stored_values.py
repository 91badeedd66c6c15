"""Values of the initializers of a model, made when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from weakref import WeakValueDictionary

import numpy as np
import onnx

from cimrobust.array_shapes import Shaped
from cimrobust.onnx_io.tensors import decode

_Arrays = dict[str, Shaped[np.ndarray, "..."]]


class StoredValues(Mapping[str, Shaped[np.ndarray, "..."]]):
    """Initializers by name, read-only.

    The model holds their bytes; an array of them lives as long as somebody uses it, so that a
    large network is not held twice.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._arrays: WeakValueDictionary[str, Shaped[np.ndarray, "..."]] = WeakValueDictionary()

    def __getitem__(self, name: str) -> Shaped[np.ndarray, "..."]:
        known = self._arrays.get(name)
        if known is None:
            known = self._arrays[name] = decode(self._tensors[name])
        return known

    def __reduce__(self) -> tuple[Callable[..., _Arrays], tuple[_Arrays]]:
        return dict, (dict(self),)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors
