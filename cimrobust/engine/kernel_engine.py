"""The network as the chip computes it: the kernel at crossbar nodes, onnxruntime between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Shaped

from cimrobust.engine.array_plan import PlannedArray, plan_array, reference_problem
from cimrobust.engine.batches import Feeding
from cimrobust.engine.kernel import program_devices
from cimrobust.engine.node_arrays import arrays_of
from cimrobust.engine.open_chip import NO_ARRAYS, CutNetwork, OpenChip
from cimrobust.engine.parallel import map_ordered
from cimrobust.engine.sessions import open_session
from cimrobust.mapping.device_levels import fold_levels, spread_deviation
from cimrobust.mapping.planes import cells_of
from cimrobust.onnx_io.crossbar_nodes import CrossbarNode, crossbar_nodes
from cimrobust.onnx_io.fake_quant import InputLevels
from cimrobust.onnx_io.large_models import require_one_message, tensor_bytes
from cimrobust.onnx_io.layers import UnmappedNode
from cimrobust.onnx_io.lower import lower
from cimrobust.onnx_io.partition import Plan, Segment, partition
from cimrobust.onnx_io.session_template import external_bytes
from cimrobust.seeds import stream_key

if TYPE_CHECKING:
    from cimrobust.engine.codings import ArrayRanges
    from cimrobust.engine.crossbar_product import Crossbar, ReadNoise
    from cimrobust.engine.nodes import Multiplier
    from cimrobust.mapping.placement import Placement
    from cimrobust.onnx_io.deployed import Deployed

# Batches from 16 samples on are widened fourfold, to 128 samples at most.
_FEWEST_SAMPLES = 16
_MOST_SAMPLES = 128


@dataclass(frozen=True)
class DeviceLevels:
    """One programmed chip, device by device.

    Attributes:
        levels: By initializer the levels of its devices, float32 [cells_per_weight, num_weights].
        seed: Seed of the run, for read noise.
        trial: Number of the chip, for read noise.
    """

    levels: Mapping[str, Float32[np.ndarray, "cells weights"]]
    seed: int = 0
    trial: int = 0


Weights = Mapping[str, Float32[np.ndarray, "..."]] | DeviceLevels


def wider(feeding: Feeding) -> Feeding:
    """Return larger batches for crossbars.

    Every product is a call of its own, and needs no room for the whole of a batch's activations in
    cache.
    """
    return (
        Feeding("free", min(4 * feeding.size, _MOST_SAMPLES))
        if feeding.mode == "free" and feeding.size >= _FEWEST_SAMPLES
        else feeding
    )


def noise_key(chip: DeviceLevels) -> int:
    """Return the key of a chip's read noise."""
    return stream_key(chip.seed, "read_noise", str(chip.trial))


class KernelEngine:
    """Opens chips of a deployed network on crossbars; safe to use from many threads.

    Attributes:
        deployed: The network.
        placement: Where its weights are stored.
        output: Output that decisions are read from.
        feeding: How samples are fed.
        plan: Crossbar nodes and what lies between them.
        arrays: Products of the crossbar nodes by key.
        biased_nodes: Nodes whose products add the bias.
        digital: Nodes with stored weights that the kernel does not compute: their devices deviate,
            their converters are not simulated.
    """

    def __init__(
        self,
        deployed: Deployed,
        placement: Placement,
        *,
        output: str,
        feeding: Feeding,
        ranges: Mapping[str, ArrayRanges] | None = None,
        workers: int = 1,
    ) -> None:
        """Cut the network at its crossbar nodes and open what lies between them.

        Args:
            deployed: The network with its mapped weights as plain float32 initializers.
            placement: Where they are stored.
            output: Output that decisions are read from.
            feeding: How samples are fed.
            ranges: What calibration saw at every product, by key; None: ideal converters.
            workers: Threads that chips are opened with unless said otherwise.
        """
        require_one_message(
            tensor_bytes(deployed.model),
            what="a network on crossbars with converters",
            where="float32 weights",
            hint="choose a profile without converters, or use a smaller network",
        )
        self.deployed = lower(deployed)
        self.placement = placement
        self.output = output
        self.feeding = feeding
        nodes, digital = crossbar_nodes(self.deployed)
        unserved = {
            node.name: reason
            for node in nodes
            if (reason := reference_problem(node, placement)) is not None
        }
        self.plan: Plan = partition(
            self.deployed, tuple(node for node in nodes if node.name not in unserved), output
        )
        self.digital: tuple[UnmappedNode, ...] = (
            *digital,
            *(
                UnmappedNode(node.name, node.op, unserved[node.name])
                for node in nodes
                if node.name in unserved
            ),
        )
        self._workers = workers
        steps = [step for step in self.plan.steps if isinstance(step, CrossbarNode)]
        planned = [
            plan_array(step, use, placement, self.plan, ranges)
            for step in steps
            for use in arrays_of(step, placement)
        ]
        self.arrays: dict[str, PlannedArray] = {array.use.key: array for array in planned}
        self.biased_nodes = frozenset(array.node for array in planned if array.has_bias)
        self._cut = CutNetwork(self.deployed.inputs, output, feeding, self.plan, self.biased_nodes)
        self._sessions = {
            position: open_session(step.model.SerializeToString())
            for position, step in enumerate(self.plan.steps)
            if isinstance(step, Segment) and not step.weight_names
        }

    @property
    def batch_size(self) -> int:
        """Samples of one run."""
        return self.feeding.size

    def buffers(self, placement: Placement) -> dict[str, Float32[np.ndarray, "cells weights"]]:
        """Return arrays that one chip after the other can be drawn into."""
        return {
            name: np.empty((tensor.cells_per_weight, tensor.num_weights), np.float32)
            for name, tensor in placement.tensors.items()
        }

    def draw(
        self,
        placement: Placement,
        *,
        seed: int,
        trial: int,
        out: Mapping[str, Float32[np.ndarray, "cells weights"]] | None = None,
    ) -> DeviceLevels:
        """Draw one chip, see `engine.kernel.program_devices`."""
        return DeviceLevels(
            program_devices(placement, seed=seed, trial=trial, out=out), seed, trial
        )

    def open(self, weights: Weights) -> OpenChip:
        """Open a chip.

        Args:
            weights: Weights of every mapped initializer, inside the tolerance box: every device of
                a weight takes the same share of the deviation. Or the
                devices themselves.
        """
        chip = weights if isinstance(weights, DeviceLevels) else self._devices(weights)
        cells = self._cells(chip)
        make = partial(self._program, cells, noise_key(chip))
        arrays = dict(
            zip(
                self.arrays,
                map_ordered(make, list(self.arrays.values()), workers=self._workers),
                strict=True,
            )
        )
        sessions, keep = self._digital_sessions(chip, weights)
        return OpenChip(self._cut, {**self._sessions, **sessions}, arrays, keep)

    def input_levels(self) -> dict[tuple[str, int], InputLevels]:
        """Return the levels of word lines by node and input, for nodes with one product."""
        levels: dict[tuple[str, int], InputLevels] = {}
        for step in self.plan.steps:
            if isinstance(step, CrossbarNode) and len(step.operands) == 1:
                operand = step.operands[0]
                coding = self.arrays[f"{step.name}/{operand.role}"].input_coding
                if coding.inverse_scale is not None:
                    levels[step.name, 1 if operand.slot == 0 else 0] = InputLevels(
                        coding.inverse_scale, coding.zero_point, coding.low, coding.high
                    )
        return levels

    def products(
        self, weights: Weights
    ) -> dict[
        str, tuple[PlannedArray, Crossbar, list[Float32[np.ndarray, "cells"]], ReadNoise | None]
    ]:
        """Return the products of a chip by key, to be looked into.

        Each comes with its plan, cells and read noise.
        """
        chip = weights if isinstance(weights, DeviceLevels) else self._devices(weights)
        cells, key = self._cells(chip), noise_key(chip)
        return {
            name: (array, array.program(cells, key), array.planes(cells), array.read_noise(key))
            for name, array in self.arrays.items()
        }

    def quiet_products(
        self, weights: Mapping[str, Float32[np.ndarray, "..."]]
    ) -> dict[str, Crossbar]:
        """Return the programmed products of a chip by key, without read noise.

        Args:
            weights: As in `open`.
        """
        cells = self._cells(self._devices(weights))
        return {
            name: replace(array, variances=None).program(cells, 0)
            for name, array in self.arrays.items()
        }

    def run(
        self,
        weights: Weights,
        inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]],
        constants: Mapping[str, Shaped[np.ndarray, "..."]] = NO_ARRAYS,
        *,
        threads: int = 1,
    ) -> Shaped[np.ndarray, "samples ..."]:
        """Return the decision output of all samples on one chip, samples along the first axis."""
        with self.open(weights) as chip:
            return chip.run(inputs, constants, threads=threads)

    def open_with(self, arrays: Mapping[str, Multiplier]) -> OpenChip:
        """Open the network with products of the caller's, by key.

        Digital layers hold their nominal weights.
        """
        nominal = self.placement.nominal()
        sessions, keep = self._digital_sessions(DeviceLevels({}), nominal)
        return OpenChip(self._cut, {**self._sessions, **sessions}, arrays, keep)

    def _devices(self, weights: Mapping[str, Float32[np.ndarray, "..."]]) -> DeviceLevels:
        tensors = self.placement.tensors
        return DeviceLevels(
            {
                name: spread_deviation(tensor, weights[name] - tensor.nominal)
                for name, tensor in tensors.items()
            }
        )

    def _cells(self, chip: DeviceLevels) -> dict[str, list[Float32[np.ndarray, "weights"]]]:
        return {
            name: cells_of(tensor, chip.levels[name])
            for name, tensor in self.placement.tensors.items()
        }

    def _program(
        self,
        cells: Mapping[str, Sequence[Float32[np.ndarray, "weights"]]],
        key: int,
        array: PlannedArray,
    ) -> Crossbar:
        return array.program(cells, key)

    def _digital_sessions(
        self, chip: DeviceLevels, weights: Weights
    ) -> tuple[dict[int, Any], object]:
        """Open the parts that hold stored weights of layers which stay digital."""
        sessions: dict[int, Any] = {}
        keep: list[object] = []
        for position, step in enumerate(self.plan.steps):
            if isinstance(step, Segment) and step.weight_names:
                held = {name: self._effective(name, chip, weights) for name in step.weight_names}
                keep.append(held)
                sessions[position] = open_session(
                    external_bytes(step.model, step.weight_names), weights=held
                )
        return sessions, keep

    def _effective(
        self, name: str, chip: DeviceLevels, weights: Weights
    ) -> Float32[np.ndarray, "*weight"]:
        tensor = self.placement.tensors[name]
        if isinstance(weights, DeviceLevels):
            return np.ascontiguousarray(fold_levels(tensor, chip.levels[name]), np.float32).reshape(
                tensor.shape
            )
        return np.ascontiguousarray(weights[name], np.float32).reshape(tensor.shape)
