"""Which samples patterns are made on.

A part of the evaluation set that has all classes and fits the budget. All samples are scored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int64, Real, Shaped
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from cimrobust.search.torch_patterns import tensor_of
from cimrobust.seeds import stream

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.twin.to_torch import Twin

# Making one element of an activation costs as much time as this many operations of a matrix product
# (fitted on the networks of the model zoo).
_OPERATIONS_PER_ELEMENT = 50
# Samples that share the work on the weights alone, once a run: enough that it does not count for
# much. Two and three samples are run, and tell what these would cost.
_SHARING_SAMPLES = 16


def attack_subset(
    labels: Real[np.ndarray, "samples *rest"], *, count: int, seed: int, is_regression: bool
) -> Int64[np.ndarray, "chosen"]:
    """Return sorted indices of at most `count` samples.

    With one label a sample, classes are taken in turn, so that each has its share as far as it has
    samples; otherwise samples are drawn.

    Args:
        labels: Labels or targets, samples first.
        count: Most samples.
        seed: Seed of the run.
        is_regression: Labels are targets.
    """
    num_samples = labels.shape[0]
    if num_samples <= count:
        return np.arange(num_samples)
    order = stream(seed, "search", "crafting").permutation(num_samples)
    if is_regression or labels.ndim > 1:
        return np.sort(order[:count])
    shuffled = labels[order]
    turn = np.empty(num_samples, dtype=np.int64)
    for label in np.unique(labels):
        where = np.flatnonzero(shuffled == label)
        turn[where] = np.arange(len(where))
    return np.sort(order[np.argsort(turn, kind="stable")[:count]])


def operations_per_sample(twin: Twin, runtime: Runtime) -> float:
    """Return the cost of one sample's forward run.

    In floating-point operations of matrix products and convolutions, the work on weights alone
    shared by the samples of a run.
    """
    feeding = runtime.engine.feeding
    if feeding.mode != "free":
        return _operations(twin, runtime, feeding.size) / feeding.size
    once = _counted(twin.constants)  # what constants alone decide, kept from here on
    # Not one: an axis of a single sample spares torch some copies.
    two, three = _operations(twin, runtime, 2), _operations(twin, runtime, 3)
    if three <= two:  # the numbers of the samples decide what is computed
        return (once + two) / 2
    return (once + two + (_SHARING_SAMPLES - 2) * (three - two)) / _SHARING_SAMPLES


def _operations(twin: Twin, runtime: Runtime, count: int) -> int:
    """Return the cost of a forward run of `count` samples, 1 where a run takes one alone."""
    feeding, dataset = runtime.engine.feeding, runtime.dataset
    taken = np.arange(count) % dataset.num_samples
    feed = {
        name: tensor_of(array[0] if feeding.mode == "none" else array[taken])
        for name, array in dataset.inputs.items()
    }
    constants = {name: tensor_of(array) for name, array in dataset.constants.items()}
    # With gradients, since operators may take another way without; what they would need is dropped
    # at once, so that a run holds no more than one without.
    weights = {name: weight.detach().requires_grad_() for name, weight in twin.weights.items()}
    with saved_tensors_hooks(_drop, _never_asked):
        return _counted(lambda: twin({**feed, **constants}, weights, [runtime.engine.output]))


def _counted(compute: Callable[[], object]) -> int:
    """Return the cost of what a function computes in torch."""
    products, elements = _ProductCounter(), _ElementCounter()
    with products, elements:
        compute()
    return products.count + _OPERATIONS_PER_ELEMENT * elements.count


def _drop(_saved: Shaped[Tensor, "..."]) -> None:
    """Keep nothing for a backward run that never comes."""


def _never_asked(_kept: None) -> Shaped[Tensor, "..."]:
    raise AssertionError("operations are counted without a backward run")


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts something of every operator that torch runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # To be skipped by torch's compiler is to import it, which takes longer than a quick search
        # of a small network; nothing is compiled here.
        return False


class _ProductCounter(_Counter):  # type: ignore[no-untyped-call]
    """Counts operations of matrix products and convolutions, as torch's `FlopCounterMode` does.

    That one hooks into modules besides, and into the compiler by it.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        with self:  # what an operator is composed of is counted in its place
            composed = func.decompose(*args, **given)
        if composed is not NotImplemented:
            return composed
        result = func(*args, **given)
        operations = flop_registry.get(func._overloadpacket)
        if operations is not None:
            self.count += int(operations(*args, **given, out_val=result))
        return result


class _ElementCounter(_Counter):  # type: ignore[no-untyped-call]
    """Counts the elements of all floating-point tensors that are made, views left out."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {_place(value) for value in args}
        made = result if isinstance(result, tuple | list) else (result,)
        self.count += sum(
            tensor.numel() for tensor in made if _is_float(tensor) and _place(tensor) not in given
        )
        return result


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _place(value: Any) -> int | None:
    """Return where the elements of a tensor are stored; views share it."""
    return value.untyped_storage().data_ptr() if _is_float(value) else None
