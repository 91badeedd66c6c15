"""Proof that every stored weight moves the output, at a cost that does not grow with depth squared.

A network of few tensors has each of them moved alone. In a deep one this costs its depth times a
pass that grows with depth, so one corner of the box and one backward pass show most tensors at
once: the torch twin tells how far the corner moves an output through each tensor, and the engine,
whose weights are at the same corner, must land where the twin does. Had it ignored a tensor, it
would be off by as much as that tensor moves the output. What is not shown so is moved alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cimrobust.engine.batches import Feed, first_batch
from cimrobust.engine.checks import TensorLiveness, max_difference, random_vertex, run_saved
from cimrobust.engine.ort import OrtEngine
from cimrobust.engine.parallel import map_ordered
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.errors import CimrobustError, SelfCheckError
from cimrobust.mapping.placement import Placement, TensorPlacement
from cimrobust.onnx_io.deployed import Deployed
from cimrobust.onnx_io.loops import repeating_nodes
from cimrobust.seeds import stream
from cimrobust.twin.to_torch import to_torch

_LIVENESS_SEED = 0
# With fewer tensors, moving each alone is cheaper than a twin.
_MOVED_ALONE = 6
# A tensor must move the output by this many times what twin and engine differ by. It leaves room
# for the terms of second order, which the gradient does not know.
_MARGIN = 10.0
# Differences below this share of the largest output are roundings, also where twin and engine
# happen to agree.
_ROUNDING = 1e-6


def check_liveness(
    engine: OrtEngine,
    placement: Placement,
    inputs: Feed,
    constants: Feed,
    *,
    specialised: Deployed | None = None,
    corner: Mapping[str, np.ndarray] | None = None,
    workers: int = 1,
) -> tuple[TensorLiveness, ...]:
    """Move every mapped initializer and see that the output follows.

    Tensors that no gradient shows are moved alone. Where a corner of the tolerance box changes
    nothing on these samples (outputs may be coarse), all weights of the tensor are drawn anew;
    where that changes nothing either, a plainly saved model must agree that nothing changes: then
    no output depends on the tensor.

    Args:
        engine: The deployed network.
        placement: Its weights.
        inputs: Samples; one run of the engine is fed the first, and all where that shows nothing.
        constants: What every run gets as it is.
        specialised: The same network for the sizes of the samples, which gradients are taken of;
            None: every tensor is moved alone.
        corner: Weights at the corner of `random_vertex`; None: drawn here.
        workers: Threads; no result depends on it.

    Raises:
        SelfCheckError: The engine does not follow a weight that the output depends on.
    """
    tensors = placement.tensors
    one = {name: array[: engine.feeding.size] for name, array in inputs.items()}
    if engine.feeding.mode == "free":
        one = {name: array[:1] for name, array in inputs.items()}
    shown: dict[str, float] = {}
    if specialised is not None and len(tensors) > _MOVED_ALONE:
        corner = corner or {name: random_vertex(tensor) for name, tensor in tensors.items()}
        shown = _shown_by_gradients(engine, specialised, placement, corner, one, constants)
    left = [tensor for name, tensor in tensors.items() if name not in shown]
    moved = _move_alone(engine, placement, (one, inputs), constants, left, workers)
    return tuple(
        TensorLiveness(name, "vertex", shown[name]) if name in shown else moved[name]
        for name in tensors
    )


def _shown_by_gradients(
    engine: OrtEngine,
    specialised: Deployed,
    placement: Placement,
    corner: Mapping[str, np.ndarray],
    one: Feed,
    constants: Feed,
) -> dict[str, float]:
    """Return by initializer how far it moves one output number at a corner, where that is certain.

    The number is the one that the corner moves the most.

    Empty where there is no twin, or where the twin is another network.
    """
    if repeating_nodes(specialised.model.graph):
        return {}  # a body that torch repeats takes far longer than the pass it is to save
    seen = engine.run(corner, one, constants)
    change = np.abs(seen.astype(np.float64) - engine.run(placement.nominal(), one, constants))
    if not np.isfinite(change).all() or not change.any():
        return {}
    place = np.unravel_index(int(change.argmax()), change.shape)
    try:
        with one_torch_thread():
            output, effects = _effects(
                engine, specialised, placement, corner, one, constants, place
            )
    except (CimrobustError, RuntimeError, NotImplementedError, TypeError, ValueError):
        return {}
    difference = max_difference(seen, output)
    least = _MARGIN * max(difference, _ROUNDING * float(np.abs(seen).max()))
    return {name: effect for name, effect in effects.items() if least < effect < np.inf}


def _effects(
    engine: OrtEngine,
    specialised: Deployed,
    placement: Placement,
    corner: Mapping[str, np.ndarray],
    one: Feed,
    constants: Feed,
    place: tuple[np.integer, ...],
) -> tuple[np.ndarray, dict[str, float]]:
    """Return the twin's output at a corner, and how far each tensor moves one number of it there.

    The second is to first order: the gradient times the way from the nominal weights to the corner.
    """
    twin = to_torch(
        specialised.model, weight_names=specialised.weight_names, outputs=[engine.output]
    )
    feed = {
        name: torch.from_numpy(np.array(array))
        for name, array in {**first_batch(one, engine.feeding), **constants}.items()
    }
    weights = {
        name: torch.from_numpy(np.array(array)).requires_grad_() for name, array in corner.items()
    }
    made: Tensor = twin(feed, weights, [engine.output])[engine.output]
    output = made if made.ndim == len(place) else made.unsqueeze(0)
    output[place].backward()  # type: ignore[no-untyped-call]
    effects = {
        name: _change(weight.grad, weight.detach().numpy(), placement.tensors[name].nominal)
        for name, weight in weights.items()
        if weight.grad is not None
    }
    return output.detach().numpy(), effects


def _change(gradient: Tensor, moved: np.ndarray, nominal: np.ndarray) -> float:
    step = (moved - nominal).reshape(-1)
    return abs(float(np.vdot(gradient.numpy().reshape(-1), step)))


def _move_alone(
    engine: OrtEngine,
    placement: Placement,
    samples: tuple[Feed, Feed],
    constants: Feed,
    tensors: Collection[TensorPlacement],
    workers: int,
) -> dict[str, TensorLiveness]:
    """Move tensors one by one, first on one sample, then on all where that shows nothing."""
    found: dict[str, TensorLiveness] = {}
    for inputs, last in zip(samples, (False, True), strict=True):
        left = [tensor for tensor in tensors if tensor.initializer not in found]
        if not left:
            break
        base = engine.run(placement.nominal(), inputs, constants)
        move = partial(_move, engine, placement, inputs, constants, base, is_last=last)
        for moved in map_ordered(move, left, workers=workers):
            if moved is not None:
                found[moved.initializer] = moved
    return found


def _move(
    engine: OrtEngine,
    placement: Placement,
    inputs: Feed,
    constants: Feed,
    base: np.ndarray,
    tensor: TensorPlacement,
    *,
    is_last: bool,
) -> TensorLiveness | None:
    """Move one tensor to a corner, and where these are the last samples anywhere."""
    weights = placement.nominal()
    moves: Sequence[tuple[str, partial[np.ndarray]]] = (
        ("vertex", partial(random_vertex, tensor)),
        ("replaced", partial(_redrawn, tensor)),
    )
    for move, draw in moves if is_last else moves[:1]:
        weights[tensor.initializer] = draw()
        change = max_difference(base, engine.run(weights, inputs, constants))
        if change > 0.0:
            return TensorLiveness(tensor.initializer, move, change)
    if not is_last:
        return None
    change = max_difference(base, run_saved(engine, weights, inputs, constants))
    if change > 0.0:
        raise SelfCheckError(
            f"engine must follow a change of '{tensor.initializer}', got an unchanged output where"
            f" the saved model moves by {change:g} (liveness check); report this model"
        )
    return TensorLiveness(tensor.initializer, "none", 0.0)


def _redrawn(tensor: TensorPlacement) -> np.ndarray:
    largest = float(np.abs(tensor.nominal).max(initial=0.0)) or 1.0
    noise = stream(_LIVENESS_SEED, "redrawn", tensor.initializer).standard_normal(
        tensor.shape, dtype=np.float32
    )
    most = float(np.finfo(np.float32).max)
    return np.clip(noise * np.float64(largest), -most, most).astype(np.float32)
