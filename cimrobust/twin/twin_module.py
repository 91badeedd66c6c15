"""A compiled network as a torch module, functional in the weights that are stored in devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from cimrobust.errors import CimrobustError
from cimrobust.twin.ops.program import Plan, Program, execute
from cimrobust.twin.ops.twin_step import Step, TwinRunError

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Node, Settings, Value
    from cimrobust.twin.ops.outside import OutsideNode


class Twin(torch.nn.Module):
    """An ONNX graph in torch.

    Every floating-point tensor has the twin's own type, float32 unless `.double()` or `.half()`
    changed it, whatever the model says; moves with `.to(device)`. Shape values stay on the CPU.

    Attributes:
        inputs: Names of the graph inputs, initializers not included.
        outputs: Names of the graph outputs.
        weight_names: Names of the mapped weights.
        outside: Nodes that onnxruntime runs; what they say of their gradients grows as gradients
            are taken.
    """

    def __init__(
        self,
        program: Program,
        *,
        inputs: Sequence[str],
        outputs: Sequence[str],
        weight_names: Sequence[str],
        settings: Settings,
        outside: Sequence[OutsideNode] = (),
    ) -> None:
        super().__init__()
        self.outside = tuple(outside)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.weight_names = tuple(weight_names)
        self._program = program
        self._settings = settings
        # A tensor of its own that `.double()` and `.to()` change with the rest: it says what the
        # twin works in.
        self.register_buffer("_probe", torch.zeros(()))
        self._buffer_of: dict[str, str] = {}
        self._fixed: dict[str, Shaped[Tensor, "..."]] = {}
        self._constant_names = frozenset(program.constants)
        for index, (name, tensor) in enumerate(program.constants.items()):
            if tensor.dtype == torch.int64 and name not in self.weight_names:
                self._fixed[name] = tensor
            else:
                self._buffer_of[name] = f"_constant_{index}"
                self.register_buffer(f"_constant_{index}", tensor)
        # The buffers hold the constants now, perhaps in another type or place later on.
        program.constants = {}
        varying = [
            program.slots[name]
            for name in (*self.inputs, *self.weight_names)
            if name in program.slots
        ]
        self._foldable = program.foldable(varying)
        self._template: (
            tuple[tuple[torch.dtype, torch.device], list[Any], frozenset[int]] | None
        ) = None

    @property
    def weights(self) -> dict[str, Shaped[Tensor, "..."]]:
        """Nominal values of the mapped weights, detached, in the initializers' own shapes."""
        return {name: getattr(self, self._buffer_of[name]).detach() for name in self.weight_names}

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """Names of all tensors that `forward` can return."""
        return tuple(self._program.slots)

    @property
    def straight_through(self) -> bool:
        """Whether rounding, Sign, comparisons and casts to small integers pass gradients."""
        return self._settings.straight_through

    @straight_through.setter
    def straight_through(self, value: bool) -> None:
        self._settings.straight_through = value

    @property
    def softened(self) -> bool:
        """Whether rounding and quantisers are left out and saturated activations leak gradients.

        Another, smoother network.
        """
        return self._settings.softened

    @softened.setter
    def softened(self, value: bool) -> None:
        self._settings.softened = value

    @property
    def width(self) -> float | None:
        """Width of the Gaussian that stands for the derivative of hard steps; see `Settings`."""
        return self._settings.width

    @width.setter
    def width(self, value: float | None) -> None:
        self._settings.width = value

    @contextmanager
    def listing_steps(self) -> Iterator[list[float]]:
        """Yield a list that runs with gradients fill with the hard steps on their way.

        Of each the standard deviation of what it compares, in steps; 0 of a single step.
        """
        found: list[float] = []
        self._settings.steps = found
        try:
            yield found
        finally:
            self._settings.steps = None

    def source_of(self, name: str) -> tuple[str, tuple[str, ...]] | None:
        """Return operator and inputs of the node that makes a tensor, None where no node does.

        Lets a search step back over an ArgMax whose result is the decision.
        """
        node = self.node_of(name)
        return None if node is None else (node.op, node.inputs)

    def node_of(self, name: str) -> Node | None:
        """Return the node that makes a tensor, None where no node does."""
        return next((step.node for step in self._program.steps if name in step.node.outputs), None)

    def steps_to(self, tensor: str) -> tuple[Step, ...]:
        """Return the steps that a tensor depends on, in the order in which they run.

        What constants alone decide is left out.
        """
        _values, filled = self._ready()
        return tuple(
            step for step, _dead in self._program.plan((self._program.slots[tensor],), filled).steps
        )

    def constants(self) -> dict[str, Shaped[Tensor, "..."]]:
        """Return all values that constants alone decide, by name, in the twin's type.

        The mapped weights are not among them.
        """
        values, _filled = self._ready()
        return {
            name: values[slot]
            for name, slot in self._program.slots.items()
            if name not in self.weight_names and isinstance(values[slot], Tensor)
        }

    def _apply(self, fn: Any, recurse: bool = True) -> Twin:
        self._template = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As in torch."""
        self._template = None
        return super().load_state_dict(*args, **kwargs)

    def _ready(self) -> tuple[list[Any], frozenset[int]]:
        """Return the list of values that constants alone decide, and the slots filled."""
        probe: Float[Tensor, ""] = self._probe  # type: ignore[assignment]
        key = (probe.dtype, probe.device)
        if self._template is not None and self._template[0] == key:
            return self._template[1], self._template[2]
        self._settings.dtype, self._settings.device = key
        program = self._program
        values: list[Any] = [None] * program.num_slots
        for name, tensor in self._fixed.items():
            values[program.slots[name]] = tensor
        for name, buffer in self._buffer_of.items():
            values[program.slots[name]] = getattr(self, buffer)
        with torch.no_grad():
            steps = tuple((step, ()) for step in self._foldable)
            execute(Plan(steps, ()), values)
        filled = frozenset(slot for step in self._foldable for slot in step.outputs if slot)
        self._template = (key, values, filled)
        return values, filled

    def forward(
        self,
        inputs: Mapping[str, Value],
        weights: Mapping[str, Shaped[Tensor, "..."]] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Value]:
        """Run the graph.

        Only the nodes that the wanted outputs depend on run; intermediates are freed as soon as
        nothing needs them.

        Args:
            inputs: Graph inputs by name; floating-point ones are brought into the twin's type.
            weights: Mapped weights by initializer name, in the initializer's shape; those left out
                have their nominal value.
            outputs: Names of any tensors of the graph; the graph's outputs where None.

        Returns:
            The wanted tensors by name. Quantised tensors are floating-point tensors that hold
            integers.

        Raises:
            CimrobustError: A name is not known or an input is missing.
            TwinRunError: A node failed on these values.
        """
        values, filled = self._ready()
        values = list(values)
        slots = self._program.slots
        dtype = self._settings.dtype
        for name, tensor in inputs.items():
            if name in self.inputs:
                values[slots[name]] = _in_type(tensor, dtype)
            elif name not in self._constant_names:
                raise CimrobustError(f"input must be one of {', '.join(self.inputs)}, got {name!r}")
        for name, tensor in (weights or {}).items():
            if name not in self.weight_names:
                raise CimrobustError(
                    f"weight must be one of the twin's {len(self.weight_names)} mapped weights, got"
                    f" {name!r}"
                )
            values[slots[name]] = tensor if tensor.dtype == dtype else tensor.to(dtype)
        wanted = tuple(self.outputs if outputs is None else outputs)
        unknown = [name for name in wanted if name not in slots]
        if unknown:
            raise CimrobustError(
                f"output must name a tensor of the graph, got {', '.join(map(repr, unknown))}"
            )
        plan = self._program.plan(tuple(slots[name] for name in wanted), filled)
        self._check_fed(plan, values)
        return dict(zip(wanted, execute(plan, values), strict=True))

    def each(
        self,
        inputs: Mapping[str, Shaped[Tensor, "_runs ..."]],
        constants: Mapping[str, Shaped[Tensor, "..."]],
        weights: Mapping[str, Shaped[Tensor, "..."]],
        outputs: Sequence[str],
    ) -> dict[str, Shaped[Tensor, "..."]]:
        """Run the graph on many sets of inputs, each as if it were alone.

        Args:
            inputs: Graph inputs by name, with one axis more in front, which counts the runs.
            constants: Graph inputs that all runs share.
            weights: As in `forward`.
            outputs: As in `forward`.

        Returns:
            The wanted tensors by name, runs first.

        Raises:
            TwinRunError: A node failed on these values, or what it computes depends on the values
                of a run.
        """

        def alone(feed: dict[str, Shaped[Tensor, "..."]]) -> Any:
            return self.forward({**feed, **constants}, weights, outputs)

        try:
            made: dict[str, Shaped[Tensor, "..."]] = torch.func.vmap(alone)(dict(inputs))
        except (RuntimeError, ValueError, TypeError) as error:
            raise TwinRunError(
                f"runs must have outputs of one shape to share a pass, got {error}"
            ) from error
        return made

    def _check_fed(self, plan: Plan, values: list[Any]) -> None:
        missing = [name for name in self.inputs if values[self._program.slots[name]] is None]
        if not missing:
            return
        read = {slot for step, _dead in plan.steps for slot in step.inputs} | set(plan.outputs)
        missing = [name for name in missing if self._program.slots[name] in read]
        if missing:
            raise CimrobustError(
                f"every input must be given, got none for {', '.join(map(repr, missing))}"
            )


def _in_type(value: Value, dtype: torch.dtype) -> Value:
    """Return an input with floating-point values in the working type.

    Sequences are lists of tensors, empty optional values None.
    """
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() and value.dtype != dtype else value
    return None if value is None else [_in_type(part, dtype) for part in value]  # type: ignore[misc]
