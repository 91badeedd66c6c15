"""Proof that every stored weight moves the output, at a cost that does not grow with depth squared.

A network of few tensors has each of them moved alone. In a deep one this costs its depth times a
pass that grows with depth, so one corner of the box and one backward pass show most tensors at
once: the torch twin tells how far the corner moves an output through each tensor, and the engine,
whose weights are at the same corner, must land where the twin does. Had it ignored a tensor, it
would be off by as much as that tensor moves the output. What is not shown so is moved alone.

Of a network that rounds its activations, a gradient is no proof: it passes roundings straight
through, and one of them may swallow what it promises. There the engine must land on the bit where a
saved model does, whose weights cannot be ignored, and gradients only tell which tensors that model
depends on. Those of which they tell the least are moved alone; where one of them does not follow,
all are. So it is with a large network whose gradient shows few tensors, as where its activations
have 16 bits: to move each alone would take minutes apiece.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Shaped
from torch import Tensor

from cimrobust.engine.batches import Feed, first_batch
from cimrobust.engine.checks import (
    TensorLiveness,
    corner_of,
    max_difference,
    random_vertex,
    run_saved,
)
from cimrobust.engine.opening_memory import session_threads
from cimrobust.engine.parallel import map_ordered
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.errors import CimrobustError, SelfCheckError
from cimrobust.late_arrays import LateArrays
from cimrobust.onnx_io.loops import repeating_nodes
from cimrobust.onnx_io.walk import all_nodes, round_activations
from cimrobust.seeds import stream
from cimrobust.twin.to_torch import to_torch

if TYPE_CHECKING:
    from cimrobust.engine.ort import OrtEngine
    from cimrobust.mapping.placement import Placement, TensorPlacement
    from cimrobust.onnx_io.deployed import Deployed

_LIVENESS_SEED = 0
# With fewer tensors, moving each alone is cheaper than a twin.
_MOVED_ALONE = 6
# The same where activations are rounded: moved alone, tensors are proved and not only traced, and
# so many single samples are two batches.
_MOVED_ALONE_ROUNDED = 32
# Traced tensors that are moved alone.
_WEAKEST = 16
# A twin that rounds must land nearer to the engine than the nominal weights do, by this factor.
_NEARER = 2.0
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
    corner: Mapping[str, Float32[np.ndarray, "..."]] | None = None,
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
            None: every tensor is moved alone. Where it rounds activations, most tensors of a deep
            network are only traced.
        corner: Weights at the corner of `random_vertex`; None: drawn here.
        workers: Threads; no result depends on it.

    Raises:
        SelfCheckError: The engine does not follow a weight that the output depends on.
    """
    tensors = placement.tensors
    one = {name: array[: engine.feeding.size] for name, array in inputs.items()}
    if engine.feeding.mode == "free":
        one = {name: array[:1] for name, array in inputs.items()}
    corner = corner or corner_of(placement, late=False)
    shown: dict[str, float] = {}
    traced: dict[str, float] = {}
    rounds = specialised is not None and _rounds(specialised)
    if specialised is not None and not rounds and len(tensors) > _MOVED_ALONE:
        shown = _shown_by_gradients(engine, specialised, placement, corner, one, constants)
    # A large network of floats moves each tensor alone in minutes.
    may_trace = rounds or engine.deployed.late_weights is not None
    if specialised is not None and may_trace and len(tensors) - len(shown) > _MOVED_ALONE_ROUNDED:
        found = _traced(engine, specialised, placement, corner, one, constants)
        traced = {name: effect for name, effect in found.items() if name not in shown}
    weakest = sorted(traced, key=lambda name: (traced[name], name))[:_WEAKEST]
    known = {name: TensorLiveness(name, "vertex", effect) for name, effect in shown.items()} | {
        name: TensorLiveness(name, "traced", effect)
        for name, effect in traced.items()
        if name not in weakest
    }
    move = partial(_move_alone, engine, placement, (one, inputs), constants, workers=workers)
    alone = move([tensor for name, tensor in tensors.items() if name not in known])
    if any(alone[name].move != "vertex" for name in weakest):
        alone |= move([tensors[name] for name in traced if name not in weakest])
    return tuple((known | alone)[name] for name in tensors)


def _rounds(deployed: Deployed) -> bool:
    """Tell whether a deployed network rounds activations; its stored weights are floats."""
    return round_activations(node.op_type for node in all_nodes(deployed.model.graph))


def _shown_by_gradients(
    engine: OrtEngine,
    specialised: Deployed,
    placement: Placement,
    corner: Mapping[str, Float32[np.ndarray, "..."]],
    one: Feed,
    constants: Feed,
) -> dict[str, float]:
    """Return by initializer how far it moves one output number at a corner, where that is certain.

    The number is the one that the corner moves the most.

    Empty where there is no twin, or where the twin is another network.
    """
    seen, change = _corner(engine, placement, corner, one, constants)
    if not change.any():
        return {}
    direction = np.zeros_like(change)
    direction.flat[int(np.abs(change).argmax())] = 1.0
    found = _effects(engine, specialised, placement, corner, one, constants, direction)
    if found is None:
        return {}
    output, effects = found
    difference = max_difference(seen, output)
    least = _MARGIN * max(difference, _ROUNDING * float(np.abs(seen).max()))
    return {name: effect for name, effect in effects.items() if least < effect < np.inf}


def _traced(
    engine: OrtEngine,
    specialised: Deployed,
    placement: Placement,
    corner: Mapping[str, Float32[np.ndarray, "..."]],
    one: Feed,
    constants: Feed,
) -> dict[str, float]:
    """Return by initializer how far it moves the output at a corner, as if nothing were rounded.

    Measured along the change that the corner makes.

    Empty where the engine does not land on the bit where a saved model does, where there is no
    twin, or where the twin is another network.
    """
    seen, change = _corner(engine, placement, corner, one, constants)
    if not change.any() or max_difference(seen, run_saved(engine, corner, one, constants)) != 0.0:
        return {}
    length = float(np.linalg.norm(change))
    found = _effects(engine, specialised, placement, corner, one, constants, change / length)
    if found is None:
        return {}
    # In float64: squares of 16 bits soon pass the largest number.
    output, seen = found[0].astype(np.float64), seen.astype(np.float64)
    effects = found[1]
    if output.shape != seen.shape or not _NEARER * np.linalg.norm(output - seen) <= length:
        return {}
    least = _ROUNDING * float(np.linalg.norm(seen))
    return {name: effect for name, effect in effects.items() if least < effect < np.inf}


def _corner(
    engine: OrtEngine,
    placement: Placement,
    corner: Mapping[str, Float32[np.ndarray, "..."]],
    one: Feed,
    constants: Feed,
) -> tuple[Shaped[np.ndarray, "samples *outputs"], Float64[np.ndarray, "samples *outputs"]]:
    """Return the output at a corner and how far it is from the nominal one.

    Zero if not finite, or text.
    """
    seen = engine.run(corner, one, constants)
    if seen.dtype.kind not in "fiub":
        return seen, np.zeros(seen.shape)
    change = seen.astype(np.float64) - engine.run(placement.late_nominal(), one, constants)
    return seen, change if np.isfinite(change).all() else np.zeros_like(change)


def _effects(
    engine: OrtEngine,
    specialised: Deployed,
    placement: Placement,
    corner: Mapping[str, Float32[np.ndarray, "..."]],
    one: Feed,
    constants: Feed,
    direction: Float64[np.ndarray, "samples *outputs"],
) -> tuple[Float[np.ndarray, "samples *outputs"], dict[str, float]] | None:
    """Return the twin's output at a corner, and how far each tensor moves it along a direction.

    The second is to first order: the gradient times the way from the nominal weights to the corner.

    None where there is no twin.
    """
    if repeating_nodes(specialised.model.graph):
        return None  # a body that torch repeats takes far longer than the pass it is to save
    feed = {**first_batch(one, engine.feeding), **constants}
    try:
        with one_torch_thread():
            return _changes(specialised, engine.output, placement, corner, feed, direction)
    except (CimrobustError, RuntimeError, NotImplementedError, TypeError, ValueError):
        return None


def _changes(
    specialised: Deployed,
    output: str,
    placement: Placement,
    corner: Mapping[str, Float32[np.ndarray, "..."]],
    feed: Feed,
    direction: Float64[np.ndarray, "samples *outputs"],
) -> tuple[Float[np.ndarray, "samples *outputs"], dict[str, float]]:
    """Return the output of the twin, and how far each weight with a gradient moves a sum of it.

    The twin computes with the corner's own arrays, and a gradient is let go once its number is
    known: no more than one is held.
    """
    arrays = {name: np.require(array, requirements=["C", "W"]) for name, array in corner.items()}
    moved = {name: torch.from_numpy(array).requires_grad_() for name, array in arrays.items()}
    twin = to_torch(
        specialised.model,
        weight_names=specialised.weight_names,
        outputs=[output],
        values={name: weight.detach() for name, weight in moved.items()},
    )
    inputs = {name: torch.from_numpy(np.array(array)) for name, array in feed.items()}
    changes: dict[str, float] = {}

    def take(name: str, weight: Float32[Tensor, "..."]) -> None:
        assert weight.grad is not None
        gradient, weight.grad = weight.grad.numpy(), None
        changes[name] = _change(gradient, arrays[name], placement.tensors[name].nominal)

    for name, weight in moved.items():
        weight.register_post_accumulate_grad_hook(partial(take, name))  # type: ignore[no-untyped-call]
    made: Float[Tensor, "..."] = twin(inputs, moved, [output])[output]
    found = made if made.ndim == direction.ndim else made.unsqueeze(0)
    found.backward(torch.from_numpy(direction).to(found.dtype))  # type: ignore[no-untyped-call]
    return found.detach().numpy(), changes


def _change(
    gradient: Float32[np.ndarray, "*weight"],
    moved: Float32[np.ndarray, "*weight"],
    nominal: Float32[np.ndarray, "*weight"],
) -> float:
    return abs(float(np.vdot(gradient.reshape(-1), (moved - nominal).reshape(-1))))


def _move_alone(
    engine: OrtEngine,
    placement: Placement,
    samples: tuple[Feed, Feed],
    constants: Feed,
    tensors: Collection[TensorPlacement],
    *,
    workers: int,
) -> dict[str, TensorLiveness]:
    """Move tensors one by one, first on one sample, then on all where that shows nothing.

    As many at the same time as fit into the memory.
    """
    found: dict[str, TensorLiveness] = {}
    for inputs, last in zip(samples, (False, True), strict=True):
        left = [tensor for tensor in tensors if tensor.initializer not in found]
        if not left:
            break
        nominal = engine.handed(placement.late_nominal())
        base = engine.run(nominal, inputs, constants)
        batch = min(engine.feeding.size, len(base))
        workers = session_threads(engine.deployed, batch, workers)
        move = partial(_move, engine, placement, nominal, inputs, constants, base, is_last=last)
        for moved in map_ordered(move, left, workers=workers):
            if moved is not None:
                found[moved.initializer] = moved
    return found


def _move(
    engine: OrtEngine,
    placement: Placement,
    nominal: Mapping[str, Shaped[np.ndarray, "..."]],
    inputs: Feed,
    constants: Feed,
    base: Shaped[np.ndarray, "samples *outputs"],
    tensor: TensorPlacement,
    *,
    is_last: bool,
) -> TensorLiveness | None:
    """Move one tensor to a corner, and where these are the last samples anywhere."""
    moves: Sequence[tuple[str, partial[Float32[np.ndarray, "..."]]]] = (
        ("vertex", partial(random_vertex, tensor)),
        ("replaced", partial(_redrawn, tensor)),
    )
    for move, draw in moves if is_last else moves[:1]:
        moved = draw()
        weights = {**nominal, tensor.initializer: moved}
        change = max_difference(base, engine.run(weights, inputs, constants))
        if change > 0.0:
            return TensorLiveness(tensor.initializer, move, change)
    if not is_last:
        return None
    saved = _with_one(placement.late_nominal(), tensor.initializer, moved)
    change = max_difference(base, run_saved(engine, saved, inputs, constants))
    if change > 0.0:
        raise SelfCheckError(
            f"engine must follow a change of '{tensor.initializer}', got an unchanged output where"
            f" the saved model moves by {change:g} (liveness check); report this model"
        )
    return TensorLiveness(tensor.initializer, "none", 0.0)


def _with_one(
    nominal: Mapping[str, Float32[np.ndarray, "..."]],
    moved: str,
    values: Float32[np.ndarray, "..."],
) -> Mapping[str, Float32[np.ndarray, "..."]]:
    """Return nominal weights but for one tensor."""
    return LateArrays(nominal, lambda name: values if name == moved else nominal[name])


def _redrawn(tensor: TensorPlacement) -> Float32[np.ndarray, "..."]:
    largest = float(np.abs(tensor.nominal).max(initial=0.0)) or 1.0
    noise = stream(_LIVENESS_SEED, "redrawn", tensor.initializer).standard_normal(
        tensor.shape, dtype=np.float32
    )
    most = float(np.finfo(np.float32).max)
    return np.clip(noise * np.float64(largest), -most, most).astype(np.float32)
