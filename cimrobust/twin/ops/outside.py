"""Nodes without a torch form.

Onnxruntime runs them inside the twin, and their gradient is an estimate.

How it is estimated depends on what the node turns out to be, tried in this order for every input
through which a gradient is wanted:

- one output element for every input element: finite differences of all elements at once; where the
  function is flat, straight-through;
- few input elements a sample: finite differences, element by element;
- outputs of the shape of the input: straight-through;
- anything else: finite differences in a few random directions.

The bounds of `certify` never use such nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import torch
from jaxtyping import Float, Float64, Shaped
from onnx import TensorProto, helper
from torch import Tensor

from cimrobust.onnx_io.fold import replace_nodes
from cimrobust.onnx_io.walk import op_name
from cimrobust.twin.ops.torch_tensors import INTEGER_RANGES, TORCH_TYPES

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel, Node

# Most elements of a sample that are moved one by one: each costs two runs of the node in every pass
# of a search.
_FEW = 128
_DIRECTIONS = 16
# Of the root mean square of a tensor: large enough for float32 results, whose rounding is divided
# by it.
_STEP = 2.0**-7
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

ELEMENTS = "finite differences"
STRAIGHT = "straight-through"
DIRECTIONS = f"finite differences in {_DIRECTIONS} random directions"


@dataclass
class OutsideNode:
    """A node that onnxruntime runs.

    Attributes:
        name: Name of the node.
        op: Its operator.
        reason: Why it has no torch form.
        used: How its gradients were estimated so far; empty until one was wanted.
    """

    name: str
    op: str
    reason: str
    used: set[str] = field(default_factory=set)

    @property
    def text(self) -> str:
        """The node in words."""
        return (
            f"'{self.name}' ({self.op}, {' and '.join(sorted(self.used)) or 'no gradient wanted'})"
        )


def outside_kernel(node: Node, alone: onnx.ModelProto, reason: str) -> tuple[Kernel, OutsideNode]:
    """Return a kernel that runs a node in onnxruntime, and what is known of the node.

    Args:
        node: The node as converters see it.
        alone: A model of this node alone, without inputs and outputs; what stays constant for it is
            an initializer.
        reason: Why it has no torch form.
    """
    described = OutsideNode(node.name, op_name(alone.graph.node[0]), reason)
    runner = _Runner(node, alone)

    def run(*values: Any) -> Any:
        if torch.is_grad_enabled() and any(
            isinstance(value, Tensor) and value.requires_grad for value in values
        ):
            made = _Outside.apply(runner, described, *values)  # type: ignore[no-untyped-call]
        else:
            made = tuple(runner.to_torch(array) for array in runner(values))
        return made if len(made) > 1 else made[0]

    return run, described


class _Runner:
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


class _Outside(torch.autograd.Function):
    """Value of the node by onnxruntime, gradient by estimate."""

    @staticmethod
    def forward(ctx: Any, runner: _Runner, described: OutsideNode, *values: Any) -> tuple[Any, ...]:
        ctx.runner, ctx.described = runner, described
        ctx.values = [value.detach() if isinstance(value, Tensor) else value for value in values]
        made = tuple(runner.to_torch(array) for array in runner(ctx.values))
        whole = [
            value for value in made if isinstance(value, Tensor) and not value.is_floating_point()
        ]
        ctx.mark_non_differentiable(*whole)
        ctx.set_materialize_grads(False)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        wanted = {place: grad for place, grad in enumerate(grads) if grad is not None}
        found: list[Any] = [None, None]
        for index in range(len(ctx.values)):
            needed = ctx.needs_input_grad[index + 2] and wanted
            found.append(
                _Estimate(ctx.runner, ctx.values, index, wanted, ctx.described.used).gradient()
                if needed
                else None
            )
        return tuple(found)


class _Estimate:
    """The gradient through one input of a node."""

    def __init__(
        self,
        runner: _Runner,
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
