"""A model as onnxruntime has optimised it: what depends on stored weights, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from jaxtyping import Shaped

from cimrobust.onnx_io.large_models import without_data
from cimrobust.onnx_io.session_template import external_bytes
from cimrobust.onnx_io.tensors import decode


@dataclass(frozen=True)
class OptimisedForm:
    """A model that was written after its optimisation.

    Attributes:
        model: The model.
    """

    model: onnx.ModelProto

    @classmethod
    def parse(cls, content: bytes) -> OptimisedForm:
        """Read what onnxruntime wrote.

        Names of nodes say nothing, and are handed out in another order every time.
        """
        model = onnx.load_model_from_string(content)
        for node in model.graph.node:
            node.ClearField("name")
        return cls(model)

    @cached_property
    def arrays(self) -> Mapping[str, Shaped[np.ndarray, "..."]]:
        """Initializers of the main graph."""
        return {tensor.name: decode(tensor) for tensor in self.model.graph.initializer}

    @cached_property
    def structure(self) -> bytes:
        """All but the values of these initializers; equal for equal graphs of equal order."""
        return bytes(without_data(self.model, list(self.arrays)).SerializeToString())

    def external(self, names: Sequence[str]) -> bytes:
        """Return the model with some initializers marked as external."""
        return external_bytes(self.model, names)
