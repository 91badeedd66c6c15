"""A network as it was loaded: one normalised ONNX model and what the file says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped


@dataclass(frozen=True)
class TensorSpec:
    """Name, NumPy type name and shape of a graph input or output.

    Attributes:
        name: Name in the graph.
        dtype: NumPy's name of the element type, e.g. ``"float32"``.
        shape: One entry an axis: a number, a symbol, or None where the file says nothing. None as a
            whole: unknown rank.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class FileDigest:
    """What one file of the model was when it was read."""

    name: str
    sha256: str
    num_bytes: int


@dataclass(frozen=True)
class Network:
    """A loaded ONNX model.

    Attributes:
        path: File it came from.
        model: Normalised model: nodes in topological order with unique names, local functions
            inlined, `If` on constant conditions resolved, Constant nodes turned into initializers,
            initializers no longer graph inputs, all data inside. Never changed after loading.
        initializers: Value of every initializer, read-only, in the file's type and shape.
        inputs: Graph inputs that are not initializers.
        outputs: Graph outputs.
        opsets: Opset version per domain ("" is the standard one).
        ir_version: IR version that the file states.
        producer: Producer name and version that the file states.
        files: Digest of the model file, then of every external data file.
        operators: Number of nodes per operator, other domains as ``domain::Op``.
        num_parameters: Number of elements of initializers, and of weights in Constant nodes.
        num_in_constants: How many of them Constant nodes hold.
        notes: What loading had to change or wants to be known, one sentence each.
        runs_as_file: onnxruntime runs the file, and as it is read here; if not, the model takes its
            place where the file would be run.
        stated_bits: Bits of the integers of a weight, by initializer, where the file states them
            otherwise than by its element type.
        shared_sizes: Names of axes of inputs that must have one size each for the model to be the
            file's network, which runtimes do not ask for.
        map_keys: By output that maps labels to scores in the file, and is those scores here: the
            labels in their order.
        bfloat16_in_file: Initializers that the file holds in bfloat16 and that are float32 here.
    """

    path: Path
    model: onnx.ModelProto
    initializers: Mapping[str, Shaped[np.ndarray, "..."]]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opsets: Mapping[str, int]
    ir_version: int
    producer: str
    files: tuple[FileDigest, ...]
    operators: Mapping[str, int]
    num_parameters: int
    num_in_constants: int
    notes: tuple[str, ...]
    runs_as_file: bool = True
    stated_bits: Mapping[str, int] = field(default_factory=dict)
    shared_sizes: tuple[str, ...] = ()
    map_keys: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    bfloat16_in_file: frozenset[str] = frozenset()
