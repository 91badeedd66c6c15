"""A network in the form in which engines run it: every stored weight is one float initializer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from cimrobust.array_shapes import Float32
from cimrobust.onnx_io.network import TensorSpec


@dataclass(frozen=True)
class Deployed:
    """A network whose stored weights can be replaced by programmed ones.

    Attributes:
        model: Every mapped initializer is a float32 initializer of its own name; integer layers are
            rewritten to float layers between quantisers; digital uses of a mapped tensor read a
            copy. Never changed. Where `late_weights` has them, it holds no values for them.
        weight_names: Mapped initializers, in the order of the scan.
        weight_shapes: Their shapes.
        inputs: Graph inputs.
        outputs: Graph outputs.
        batch: ``"dynamic"``: the file has a symbolic batch axis; ``"widened"``: it was fixed and
            made symbolic here; ``"fixed"``: feed exactly `batch_size` samples; ``"none"``: no batch
            axis, one sample a run.
        batch_size: The number of samples a run must have, for ``"fixed"``.
        notes: What had to be changed or is worth knowing.
        late_weights: Weights of the file, float32, of a large network, which is held once by its
            own model: made when they are read. None: the model has them.
    """

    model: onnx.ModelProto
    weight_names: tuple[str, ...]
    weight_shapes: Mapping[str, tuple[int, ...]]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch: str
    batch_size: int | None
    notes: tuple[str, ...]
    late_weights: Mapping[str, Float32[np.ndarray, "..."]] | None = None
