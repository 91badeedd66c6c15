"""One node of the twin, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import torch
from jaxtyping import Shaped
from onnx import TensorProto, helper
from torch import Tensor

from cimrobust.onnx_io.fold import replace_nodes
from cimrobust.twin.ops.torch_tensors import INTEGER_RANGES, TORCH_TYPES

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Node

_DIRECT = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, *TORCH_TYPES})
_TYPE_OF = {
    torch.float32: 1,
    torch.float64: 1,
    torch.float16: 1,
    torch.bool: 9,
    torch.int64: 7,
    torch.int32: 6,
    torch.uint8: 2,
    torch.int8: 3,
}


class Runner:
    """One node as a model of its own; sessions by the element types of its inputs."""

    def __init__(self, node: Node, alone: onnx.ModelProto) -> None:
        self._node = node
        self._alone = alone
        self._names = (*node.inputs, *node.captures)
        fixed = {tensor.name for tensor in alone.graph.initializer}
        self.fed = [index for index, name in enumerate(self._names) if name and name not in fixed]
        self._sessions: dict[tuple[int, ...], onnxruntime.InferenceSession] = {}
        self._lock = Lock()

    def __call__(self, values: Sequence[Any]) -> list[Shaped[np.ndarray, "..."]]:
        """Return the outputs that have a name, the others as None, for tensors.

        Or arrays of texts.
        """
        first: dict[str, Any] = {}
        for index in self.fed:
            if index < len(values) and values[index] is not None:
                first.setdefault(
                    self._names[index], (values[index], self._type_of(index, values[index]))
                )
        feed = {name: _array(value, kind) for name, (value, kind) in first.items()}
        try:
            session = self._session({name: kind for name, (_value, kind) in first.items()})
            made = iter(session.run(None, feed))
        except Exception as err:  # onnxruntime raises several unrelated kinds
            raise RuntimeError(f"onnxruntime does not run it alone: {err}") from err
        return [next(made) if name else np.zeros(0, np.float32) for name in self._node.outputs]

    def to_torch(self, array: Shaped[np.ndarray, "..."]) -> Any:
        """Return an output as the twin holds it; texts stay arrays."""
        settings = self._node.settings
        if array.dtype.kind == "f":
            return torch.from_numpy(
                array.astype(np.float64 if settings.dtype == torch.float64 else np.float32)
            ).to(settings.device, settings.dtype)
        if array.dtype.kind not in "iub":
            return array
        kind = TORCH_TYPES.get(helper.np_dtype_to_tensor_dtype(array.dtype), torch.int64)
        return torch.from_numpy(
            np.ascontiguousarray(array if array.dtype != np.uint64 else array.astype(np.int64))
        ).to(kind)

    def _type_of(self, index: int, value: Any) -> int:
        declared = self._node.input_types[index] if index < len(self._node.input_types) else None
        if declared is not None:
            return declared
        return (
            int(_TYPE_OF.get(value.dtype, TensorProto.FLOAT))
            if isinstance(value, Tensor)
            else int(TensorProto.STRING)
        )

    def _session(self, kinds: dict[str, int]) -> onnxruntime.InferenceSession:
        key = tuple(kinds.values())
        with self._lock:
            if key not in self._sessions:
                options = onnxruntime.SessionOptions()
                options.log_severity_level = 4
                options.intra_op_num_threads = options.inter_op_num_threads = 1
                content = self._model(kinds).SerializeToString()
                self._sessions[key] = onnxruntime.InferenceSession(
                    content, options, providers=["CPUExecutionProvider"]
                )
            return self._sessions[key]

    def _model(self, kinds: dict[str, int]) -> onnx.ModelProto:
        """Return the node alone; inputs of types that NumPy lacks arrive as float32."""
        model = onnx.ModelProto()
        model.CopyFrom(self._alone)
        (node,) = model.graph.node
        casts = [
            helper.make_node("Cast", [f"{name}//fed"], [name], to=kind)
            for name, kind in kinds.items()
            if not _is_fed(kind)
        ]
        fed = {
            name if _is_fed(kind) else f"{name}//fed": kind if _is_fed(kind) else TensorProto.FLOAT
            for name, kind in kinds.items()
        }
        model.graph.input.extend(
            helper.make_tensor_value_info(name, kind, None) for name, kind in fed.items()
        )
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
        replace_nodes(model.graph, [*casts, node])
        return model


def _is_fed(kind: int) -> bool:
    return kind in _DIRECT or kind == TensorProto.STRING


def _array(value: Any, kind: int) -> Shaped[np.ndarray, "..."]:
    """Return a value as an array of an ONNX element type.

    Quantised ones are held as floats that are whole.
    """
    if not isinstance(value, Tensor):
        return np.asarray(value)
    array = value.detach().cpu().numpy()
    if not _is_fed(kind):
        return array.astype(np.float32)
    if kind in INTEGER_RANGES and array.dtype.kind == "f":
        array = np.clip(np.rint(array), *INTEGER_RANGES[kind])
    return array.astype(helper.tensor_dtype_to_np_dtype(kind))
