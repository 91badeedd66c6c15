"""What opening a network takes at its largest, asked before any of it is taken.

Counted in copies of the network that are held at one time, as they were measured on transformers,
convolution networks and integer ones in onnxruntime 1.32 (docs/lab-book/scale.md), each an upper
figure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimrobust.available_memory import fitting_workers
from cimrobust.engine.activation_sizes import activation_bytes
from cimrobust.engine.batches import free_batch_size
from cimrobust.mapping.place import MOST_HELD, is_large
from cimrobust.onnx_io.large_models import tensor_bytes
from cimrobust.onnx_io.memory_needs import require_memory
from cimrobust.onnx_io.shapes import infer_types
from cimrobust.onnx_io.size_limits import MOST_SESSION_BYTES
from cimrobust.onnx_io.tensors import num_bytes, num_elements
from cimrobust.onnx_io.unsigned import may_saturate

if TYPE_CHECKING:
    from cimrobust.onnx_io.deployed import Deployed
    from cimrobust.onnx_io.layers import LayerScan
    from cimrobust.onnx_io.network import Network

_FLOAT, _BYTES_OF_HALF, _AXES_OF_A_MATRIX = 4, 2, 2
# Bytes of a stored weight that onnxruntime takes while it opens a session, beside the caller's
# array: packed for products; reordered for convolutions, where old and new layouts meet; cast from
# 16 bits, and then packed one after the other.
_PRODUCT, _CONVOLUTION, _HALF = 5.25, 12.0, 6.5
# Times that it holds an initializer of its file meanwhile.
_IN_FILE = 4
# Times of a file that is parsed to be looked at: of floats, and of integers that are rewritten.
_PARSED, _REWRITTEN = 3, 8
# Largest tensors that are encoded, decoded or compared beside everything else.
_IN_PASSING = 3
# Activations of one size that a run holds at the same time, and what a backward pass keeps of all.
_LIVE, _KEPT = 4, 3
# What an allocator holds and nobody uses: threads of a small network have heaps of their own.
_SPARE, _SPARE_OF_SMALL = 1.1, 1.3
# Bytes of blocks that are too small to be given back one by one, of a large network.
_SPARE_BYTES = 3 * 2**25


@dataclass(frozen=True)
class OpeningSizes:
    """Sizes of a network, in bytes as float32 unless said otherwise.

    Attributes:
        weights: Weights that are stored in devices.
        convolved: Those of them that have the axes of a kernel.
        halved: Those of them that the file holds in 16 bits.
        digital: Initializers that stay digital.
        largest: Largest initializer.
        file: Bytes of the file that is run.
        is_mapped: Whether a session maps it; else it is held as bytes.
        is_integer: Whether its integer products may have to be rewritten.
        has_levels: Whether float values of stored weights are held already.
        is_late: Whether weights are held by the model of the file alone, and made when they are
            read.
        sample: All activations of one sample.
        batch: Largest activation of one run.
    """

    weights: int
    convolved: int
    halved: int
    digital: int
    largest: int
    file: int
    is_mapped: bool
    is_integer: bool
    has_levels: bool
    is_late: bool
    sample: int
    batch: int

    @property
    def _handed(self) -> int:
        """The arrays that a session is given for stored weights."""
        return self.weights - (self.halved // 2 if self._is_handed_over else 0)

    @property
    def _is_handed_over(self) -> bool:
        """Whether sessions are given the large digital initializers as arrays."""
        return self.weights + self.digital > MOST_SESSION_BYTES

    def session(self, *, of_file: bool = False) -> int:
        """Return what opening a session takes beside the arrays that it is given."""
        others = self.weights - self.convolved - self.halved
        share = _CONVOLUTION * self.convolved + _HALF * self.halved + _PRODUCT * others
        times = 1 if self._is_handed_over and not of_file else _IN_FILE
        return int(share / _FLOAT) + times * self.digital

    def placement(self) -> int:
        """Return what quantised weights take, and their box where it is held."""
        if self.is_late:
            return 0
        return (3 if self.weights < _FLOAT * MOST_HELD else 1) * self.weights

    def deployed(self) -> int:
        """Return what the deployed network and the template of its sessions take."""
        return (0 if self.is_late else self.weights) + 2 * self.digital

    def stages(self, *, is_placed: bool = False) -> dict[str, int]:
        """Return what each stage of opening holds at its largest, and a drawn chip afterwards.

        Args:
            is_placed: Quantised weights are held already.
        """
        placed = 0 if is_placed else self.placement()
        passing = _IN_PASSING * self.largest
        opened = placed + self.deployed()
        # What is saved is mapped by its session.
        saved = 0 if self._is_handed_over else self.weights + self.digital
        session, handed = self.session(), self._handed
        corner = 0 if self.is_late or handed == self.weights else self.weights
        twin = self.weights - handed + 2 * self.digital + _KEPT * self.sample + passing
        return {
            "file": placed + self._run_of_file(),
            "parity": opened + (0 if self.has_levels else handed) + session,
            "checks": opened + corner + handed + saved + max(session, passing),
            "liveness": opened + max(corner + handed + session, self.weights + twin),
            "chip": opened + handed + session,
        }

    def opening(self, *, is_placed: bool = False) -> int:
        """Return the most bytes that opening takes with one batch at a time, a chip included."""
        return self._with_spare(max(self.stages(is_placed=is_placed).values()))

    def chip(self) -> int:
        """Return what deploying a placed network and drawing a chip take."""
        return self._with_spare(self.stages(is_placed=True)["chip"])

    def _with_spare(self, num_bytes: int) -> int:
        held = (
            int(_SPARE * num_bytes) + _SPARE_BYTES
            if self._is_handed_over
            else int(_SPARE_OF_SMALL * num_bytes)
        )
        return held + _LIVE * self.batch

    def _run_of_file(self) -> int:
        if self.is_mapped and not self.is_integer:
            return self.session(of_file=True)
        parsed = (_REWRITTEN if self.is_integer else _PARSED) * self.file
        return max(parsed, self.file + self.session(of_file=True))


def opening_sizes(
    network: Network, scan: LayerScan, *, has_converters: bool = False
) -> OpeningSizes:
    """Return the sizes that opening a network depends on.

    Args:
        network: The network as loaded.
        scan: Its crossbar layers.
        has_converters: Chips are run on crossbars with converters.
    """
    layers = {layer.initializer: layer for layer in scan.layers}
    tensors = {tensor.name: tensor for tensor in network.model.graph.initializer}
    sizes = {name: _FLOAT * layer.num_weights for name, layer in layers.items()}
    digital = {
        name: max(num_bytes(tensor), _FLOAT * num_elements(tensor))
        for name, tensor in tensors.items()
        if name not in layers
    }
    types = infer_types(network.model, strict=False)
    activations = [
        _FLOAT * math.prod(dim for dim in kind.shape[1:] if isinstance(dim, int))
        for name, kind in types.items()
        if name not in tensors and kind.shape
    ]
    batch = free_batch_size(types, frozenset(tensors), network.inputs)
    has_levels = any(layer.levels is not None for layer in scan.layers)
    in_model = sum(num_bytes(tensor) for tensor in tensors.values())
    return OpeningSizes(
        weights=sum(sizes.values()),
        convolved=sum(
            size for name, size in sizes.items() if len(layers[name].shape) > _AXES_OF_A_MATRIX
        ),
        halved=sum(
            size
            for name, size in sizes.items()
            if len(layers[name].shape) <= _AXES_OF_A_MATRIX
            and num_bytes(tensors[name]) == _BYTES_OF_HALF * num_elements(tensors[name])
        ),
        digital=sum(digital.values()),
        largest=max([*sizes.values(), *digital.values()], default=0),
        file=network.files[0].num_bytes if network.runs_as_file else in_model,
        is_mapped=network.runs_as_file
        and (len(network.files) > 1 or network.files[0].num_bytes > MOST_SESSION_BYTES),
        is_integer=may_saturate(network.model),
        has_levels=has_levels,
        is_late=is_large(scan) and not has_levels and not has_converters,
        sample=sum(activations),
        batch=batch * max(activations, default=0),
    )


def require_opening(
    network: Network, scan: LayerScan, *, is_placed: bool = False, has_converters: bool = False
) -> OpeningSizes:
    """Return the sizes of a network that can be opened, and of which a chip can be drawn.

    Args:
        network: The network as loaded.
        scan: Its crossbar layers.
        is_placed: Quantised weights are held already.
        has_converters: Chips are run on crossbars with converters.

    Raises:
        ModelNotCoveredError: It cannot, in the memory that is left.
    """
    sizes = opening_sizes(network, scan, has_converters=has_converters)
    _require(sizes.opening(is_placed=is_placed), network)
    return sizes


def require_chip(network: Network, scan: LayerScan, *, has_converters: bool = False) -> None:
    """Raise ModelNotCoveredError unless a placed network can be deployed and a chip drawn."""
    _require(opening_sizes(network, scan, has_converters=has_converters).chip(), network)


def opening_threads(sizes: OpeningSizes, workers: int) -> int:
    """Return how many batches can run at the same time while a placed network is opened."""
    a_batch = _LIVE * sizes.batch
    return fitting_workers(workers, a_batch, beside=sizes.opening(is_placed=True) - a_batch)


def session_threads(deployed: Deployed, num_samples: int, workers: int) -> int:
    """Return how many sessions with weights of their own can be open and run at the same time.

    At least one; results do not depend on it.

    Args:
        deployed: The network.
        num_samples: Samples of one run.
        workers: Threads that there are.
    """
    stored = _FLOAT * sum(map(math.prod, deployed.weight_shapes.values()))
    digital = tensor_bytes(deployed.model) - stored
    opening = (1 + int(_CONVOLUTION) // _FLOAT) * stored + _IN_FILE * digital
    return fitting_workers(workers, opening + num_samples * activation_bytes(deployed))


def _require(needed: int, network: Network) -> None:
    require_memory(
        needed,
        what="the network with stored weights as float32, a chip and its session",
        where=network.path,
        hint="use a machine with more memory, or a smaller network",
    )
