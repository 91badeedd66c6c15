"""Values of the initializers of a model, made when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from weakref import WeakValueDictionary

import numpy as np
import onnx

from cimrobust.onnx_io.tensors import decode


class StoredValues(Mapping[str, np.ndarray]):
    """Initializers by name, read-only.

    The model holds their bytes; an array of them lives as long as somebody uses it, so that a
    large network is not held twice.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._arrays: WeakValueDictionary[str, np.ndarray] = WeakValueDictionary()

    def __getitem__(self, name: str) -> np.ndarray:
        known = self._arrays.get(name)
        if known is None:
            known = self._arrays[name] = decode(self._tensors[name])
        return known

    def __reduce__(self) -> tuple[type[dict[str, np.ndarray]], tuple[dict[str, np.ndarray]]]:
        return dict, (dict(self),)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors
