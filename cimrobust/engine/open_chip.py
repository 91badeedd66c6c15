"""One programmed chip, run: the kernel at crossbar nodes, onnxruntime between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from cimrobust.engine.batches import Feed, cast_inputs, run_batches
from cimrobust.engine.nodes import Multiplier, run_node
from cimrobust.engine.sessions import run_segment
from cimrobust.onnx_io.partition import Segment

if TYPE_CHECKING:
    from cimrobust.engine.batches import Feeding
    from cimrobust.onnx_io.crossbar_nodes import CrossbarNode
    from cimrobust.onnx_io.network import TensorSpec
    from cimrobust.onnx_io.partition import Plan

NO_ARRAYS: Mapping[str, Shaped[np.ndarray, "..."]] = MappingProxyType({})


@dataclass(frozen=True)
class CutNetwork:
    """A network cut at its crossbar nodes.

    Attributes:
        inputs: Its graph inputs.
        output: Output that decisions are read from.
        feeding: How samples are fed.
        plan: Crossbar nodes and what lies between them.
        biased_nodes: Nodes whose products add the bias.
    """

    inputs: tuple[TensorSpec, ...]
    output: str
    feeding: Feeding
    plan: Plan
    biased_nodes: frozenset[str]


class OpenChip:
    """One programmed chip, ready to run; safe to use from many threads."""

    def __init__(
        self,
        network: CutNetwork,
        sessions: Mapping[int, Any],
        arrays: Mapping[str, Multiplier],
        keep: object,
    ) -> None:
        self._network = network
        self._sessions = sessions
        self._arrays = arrays
        # onnxruntime reads the weights of digital layers from these arrays as long as the sessions
        # live.
        self._keep = keep

    def run(
        self,
        inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]],
        constants: Mapping[str, Shaped[np.ndarray, "..."]] = NO_ARRAYS,
        *,
        threads: int = 1,
    ) -> Shaped[np.ndarray, "samples ..."]:
        """Return the decision output of all samples; as `engine.ort.OpenNetwork.run`."""
        specs = self._network.inputs
        feed, fixed = cast_inputs(specs, inputs), cast_inputs(specs, constants)
        return run_batches(self._run_once, feed, fixed, self._network.feeding, threads=threads)

    def _run_once(self, feed: Feed, samples: slice) -> Shaped[np.ndarray, "..."]:
        plan = self._network.plan
        values: dict[str, Shaped[np.ndarray, "..."]] = {**plan.constants, **feed}
        batch = (
            samples.stop - samples.start
            if self._network.feeding.mode == "free"
            else self._network.feeding.size
        )
        for position, step in enumerate(plan.steps):
            if isinstance(step, Segment):
                made = run_segment(
                    self._sessions[position],
                    step.outputs,
                    {name: values[name] for name in step.inputs},
                )
                values.update(zip(step.outputs, made, strict=True))
            else:
                self._run_crossbar(step, values, batch, samples.start)
            for name in plan.releases[position]:
                values.pop(name, None)
        return values[self._network.output]

    def _run_crossbar(
        self,
        node: CrossbarNode,
        values: dict[str, Shaped[np.ndarray, "..."]],
        batch: int,
        first_sample: int,
    ) -> None:
        stored = {operand.slot for operand in node.operands}
        inputs = [
            None if slot in stored or not name else values[name]
            for slot, name in enumerate(node.inputs)
        ]
        bias_inside = node.name in self._network.biased_nodes
        outputs = run_node(
            node,
            inputs,
            self._arrays,
            bias_inside=bias_inside,
            batch=batch,
            first_sample=first_sample,
        )
        values.update(
            {name: output for name, output in zip(node.outputs, outputs, strict=False) if name}
        )

    def close(self) -> None:
        """Free the chip."""
        self._arrays, self._sessions, self._keep = {}, {}, None

    def __enter__(self) -> OpenChip:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
