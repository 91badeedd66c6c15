"""Why operators are ours although onnx2torch passes their cases of the ONNX standard.

A test that fails here, with a newer onnx2torch, says that a converter of ours may go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cimrobust.twin.ops import converter_catalogue, library  # noqa: F401
from cimrobust.twin.ops.converter_registry import CannotConvertError, Kernel, Node, Settings, find


def node(op: str, version: int, count: int, **attributes: Any) -> Node:
    names = tuple("abcde"[:count])
    return Node(op, op, "", version, attributes, names, ("y",), (1,) * count, (), Settings())


def kernels(op: str, version: int, count: int, **attributes: Any) -> tuple[Kernel, Kernel]:
    """Return our kernel and that of onnx2torch."""
    made = node(op, version, count, **attributes)
    converter = find("", op, version)
    assert converter is not None
    return converter(made), library.kernel_of(made)


@pytest.mark.parametrize(
    ("name", "version", "attributes", "reason"),
    [
        ("Scan", 8, {}, "Scan of opset 8 is not covered"),
        ("Add", 6, {}, r"broadcasting by attribute \(opset 6 and older\) is not covered"),
        ("BatchNormalization", 9, {"spatial": 0}, "spatial = 0 is not covered"),
        ("BatchNormalization", 15, {"training_mode": 1}, "training_mode = 1 is not covered"),
        ("Pad", 13, {"mode": "mirror"}, "mode 'mirror' is not covered"),
        ("MaxPool", 12, {"kernel_shape": [1] * 4}, "pooling over 4 axes is not covered"),
        ("AveragePool", 11, {"kernel_shape": [1] * 4}, "pooling over 4 axes is not covered"),
        (
            "QuantizeLinear",
            23,
            {"output_dtype": 23},
            "quantisation to float4e2m1 is not covered",
        ),
        (
            "com.microsoft::FusedMatMul",
            1,
            {"transBatchA": 1},
            "transBatchA and transBatchB are not covered",
        ),
        (
            "com.microsoft::FusedGemm",
            1,
            {"activation": "Snake"},
            "activation 'Snake' is not covered",
        ),
        (
            "LSTM",
            14,
            {"activations": ["Snake"] * 3, "hidden_size": 2},
            "activation 'snake' is not covered",
        ),
    ],
)
def test_forms_that_have_no_kernel_are_named(
    name: str, version: int, attributes: dict[str, Any], reason: str
) -> None:
    domain, _, op = name.rpartition("::")
    made = find(domain, op, version)
    assert made is not None
    with pytest.raises(CannotConvertError, match=reason):
        made(node(op, version, 1, **attributes))


@pytest.mark.parametrize(("op", "version"), [("ArgMax", 7), ("ArgMin", 7), ("IsNaN", 9)])
def test_first_operator_sets_are_missing(op: str, version: int) -> None:
    assert find("", op, version) is not None
    with pytest.raises(CannotConvertError, match=f"onnx2torch has no {op} for opset {version}"):
        library.kernel_of(node(op, version, 1))


OTHER: dict[str, tuple[int, tuple[Tensor, ...], dict[str, Any]]] = {
    # An even window is one to the left of torch's.
    "LRN": (13, (torch.arange(8.0).reshape(1, 4, 1, 2),), {"size": 2, "alpha": 1.0}),
    # A slope of one axis belongs to the last axis, not to the channels.
    "PRelu": (16, (-torch.ones(2, 4, 4), torch.arange(4.0)), {}),
}


@pytest.mark.parametrize("op", OTHER)
def test_values_differ(op: str) -> None:
    version, inputs, attributes = OTHER[op]
    ours, theirs = kernels(op, version, len(inputs), **attributes)
    assert not torch.equal(ours(*inputs), theirs(*inputs))


def test_sums_of_int32_become_int64() -> None:
    ours, theirs = kernels("ReduceSum", 13, 1)
    x = torch.ones(3, dtype=torch.int32)
    assert (ours(x).dtype, theirs(x).dtype) == (torch.int32, torch.int64)


@pytest.mark.parametrize(
    ("op", "x"), [("Squeeze", torch.ones(1, 2, 1)), ("Unsqueeze", torch.ones(2))]
)
def test_axes_of_both_signs_fail(op: str, x: Tensor) -> None:
    ours, theirs = kernels(op, 13, 2)
    axes = torch.tensor([-3, 2])
    assert ours(x, axes).numel() == 2
    with pytest.raises(IndexError):
        theirs(x, axes)


@pytest.mark.parametrize("op", ["Sum", "Mean"])
def test_runs_that_share_a_pass_fail(op: str) -> None:
    def together(kernel: Callable[..., Tensor]) -> Tensor:
        return torch.func.vmap(kernel, in_dims=(0, None))(torch.ones(2, 3), torch.ones(3))

    ours, theirs = kernels(op, 13, 2)
    assert together(ours).shape == (2, 3)
    with pytest.raises(RuntimeError):
        together(theirs)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_ties_of_three_share_their_gradient_otherwise(op: str) -> None:
    def gradients(kernel: Kernel) -> list[float]:
        values = [torch.ones((), requires_grad=True) for _ in range(3)]
        return [float(part) for part in torch.autograd.grad(kernel(*values), values)]

    ours, theirs = kernels(op, 13, 3)
    assert gradients(ours) == [0.25, 0.25, 0.5]
    assert gradients(theirs) == pytest.approx([1 / 3] * 3)


def test_expand_copies() -> None:
    ours, theirs = kernels("Expand", 13, 2)
    x, shape = torch.ones(3, 1), torch.tensor([3, 4])
    assert ours(x, shape).data_ptr() == x.data_ptr()
    assert theirs(x, shape).data_ptr() != x.data_ptr()


def test_slice_indexes_by_a_list() -> None:
    ours, theirs = kernels("Slice", 13, 3)
    inputs = (torch.arange(4), torch.tensor([1]), torch.tensor([3]))
    assert ours(*inputs).tolist() == [1, 2]
    # Newer versions of torch take a list for a tensor of indices; warnings are errors here.
    with pytest.raises(UserWarning, match="non-tuple sequence"):
        theirs(*inputs)


@pytest.mark.parametrize("op", ["Ceil", "Floor", "Round", "Sign"])
def test_steps_have_no_gradient_to_pass_through(op: str) -> None:
    made = node(op, 13, 1)
    made.settings.straight_through = True
    converter = find("", op, 13)
    assert converter is not None
    for kernel, passed in ((converter(made), 1.0), (library.kernel_of(made), 0.0)):
        x = torch.tensor(0.25, requires_grad=True)
        assert float(torch.autograd.grad(kernel(x), x)[0]) == passed


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh", "HardSigmoid"])
def test_saturated_activations_do_not_leak(op: str) -> None:
    made = node(op, 13, 1)
    made.settings.softened = True
    converter = find("", op, 13)
    assert converter is not None
    for kernel, leaks in ((converter(made), True), (library.kernel_of(made), False)):
        x = torch.tensor(100.0, requires_grad=True)
        assert bool(torch.autograd.grad(kernel(x), x)[0] > 0.05) is leaks
