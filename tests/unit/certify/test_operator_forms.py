"""Forms of operators without a bound, each named with its node and the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from cimrobust.certify import operator_comparison, rule_choice
from cimrobust.certify.bounded_network import open_bounds
from cimrobust.certify.einsum_products import product_of_einsum
from cimrobust.certify.given_tensors import Given
from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError, Refusal
from cimrobust.certify.rules.affine import normalise
from cimrobust.certify.rules.largest import largest
from cimrobust.certify.rules.layer_norm import layer_norm
from cimrobust.certify.rules.max_pool import max_pool
from cimrobust.certify.rules.piecewise import Clip
from cimrobust.certify.rules.product import gemm
from cimrobust.certify.rules.quantise import dequantise
from cimrobust.certify.rules.softmax import softmax
from cimrobust.data.decision import Decision
from cimrobust.twin.ops.converter_registry import Node, Settings
from cimrobust.twin.ops.twin_step import Step
from tests.unit.search.conftest import Opener

RNG = np.random.default_rng(5)
FLAT = "(float[N, 4] x) => (float[N, 4] y)"
IMAGE = "(float[N, 2, 4, 4] x) => (float[N, 2, 3, 3] y)"
SAME = "(float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)"
KERNEL = {"k": RNG.normal(size=(2, 2, 1, 1)).astype(np.float32)}
FOUR = {name: np.ones(4, np.float32) for name in "abcd"}


def reason_of(
    opened: Opener, io: str, body: str, constants: Mapping[str, np.ndarray], opset: int = 13
) -> Refusal:
    """Return why a network of one crossbar layer, and of what follows it, has no bounds."""
    weights = KERNEL if "Conv" in body else {"w": RNG.normal(size=(4, 4)).astype(np.float32)}
    shape = (4, 2, 4, 4) if "4, 4] x" in io else (4, 4)
    refused = open_bounds(
        *opened(
            f'<ir_version: 8, opset_import: ["" : {opset}]> net {io} {{ {body} }}',
            {**weights, **constants},
            {"x": RNG.normal(size=shape).astype(np.float32)},
            np.zeros((4, *((2, 4, 4) if io == SAME else (2, 3, 3) if io == IMAGE else (4,)))),
            decision=Decision(read="value", metric="rmse"),
        )
    )
    assert isinstance(refused, Refusal)
    return refused


@pytest.mark.parametrize(
    ("io", "body", "constants", "opset", "node"),
    [
        (
            FLAT,
            "h = MatMul(x, w)\n y = HardSigmoid<alpha = -0.2>(h)",
            {},
            13,
            "(HardSigmoid): its slope -0.2 is not positive",
        ),
        (
            FLAT,
            "h = MatMul(x, w)\n y = LeakyRelu<alpha = 1.5>(h)",
            {},
            13,
            "(LeakyRelu): its slope 1.5 is not between 0 and 1",
        ),
        (
            FLAT,
            "h = MatMul(x, w)\n y = Elu<alpha = -0.5>(h)",
            {},
            13,
            "(Elu): bounds of its derivatives are known for its usual parameters alone",
        ),
        (
            FLAT,
            "h = MatMul(x, w)\n y = Elu<alpha = 2.0>(h)",
            {},
            13,
            "(Elu): bounds of its derivatives are known for its usual parameters alone",
        ),
        (
            FLAT,
            "h = MatMul(x, w)\n i = Cast<to = 6>(h)\n y = Cast<to = 1>(i)",
            {},
            13,
            "(Cast): it changes the type of activations",
        ),
        (
            FLAT,
            "h = MatMul(x, w)\n p = Softmax(h)\n y = PRelu(h, p)",
            {},
            13,
            "(PRelu): a parameter of it is not constant",
        ),
        (
            FLAT,
            "h = MatMul(x, w)\n m = ReduceMean<axes = [0]>(h)\n z = Mul(m, o)\n y = Add(h, z)",
            {"o": np.float32(0)},
            13,
            "tensor 'm' must not depend on other samples of its batch",
        ),
        (
            FLAT,
            "h = MatMul(x, w)\n p = Softmax<axis = 0>(h)\n z = Mul(p, o)\n y = Add(h, z)",
            {"o": np.float32(0)},
            13,
            "tensor 'p' must not depend on other samples of its batch",
        ),
        (
            IMAGE,
            "h = Conv(x, k)\n m, i = MaxPool<kernel_shape = [2, 2]>(h)\n z = Cast<to = 1>(i)\n"
            " s = Mul(z, o)\n y = Add(m, s)",
            {"o": np.float32(0)},
            13,
            "(MaxPool): it has several outputs",
        ),
        (
            SAME,
            "h = Conv(x, k)\n y = PRelu(h, s)",
            {"s": np.full((1, 2, 4, 4), 0.5, np.float32)},
            13,
            "the network has no form that can be bounded: its slopes are not one a channel",
        ),
    ],
)
def test_forms_without_a_bound_are_named(
    opened: Opener, io: str, body: str, constants: Mapping[str, np.ndarray], opset: int, node: str
) -> None:
    refused = reason_of(opened, io, body, constants, opset)
    assert node in refused.reason
    assert refused.reason.startswith("operators without a bound: ") == bool(refused.nodes)


def node_of(op: str, inputs: tuple[str, ...] = ("x",), **attributes: object) -> Node:
    settings = Settings(dtype=torch.float64)
    return Node(op, op, "", 13, attributes, inputs, ("y",), (1,) * len(inputs), (), settings)


def einsum_step(equation: str, inputs: tuple[str, ...]) -> Step:
    return Step(torch.einsum, (), (), node_of("Einsum", inputs, equation=equation))


KNOWN = torch.ones(3, 4, dtype=torch.float64)
BOUNDED = Interval.point(KNOWN)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (
            lambda: rule_choice._check_kinds(
                node_of("Add"), [rule_choice.ACTIVE, rule_choice.WEIGHT]
            ),
            "it mixes stored weights with activations",
        ),
        (
            lambda: rule_choice._check_kinds(
                node_of("Mul"), [rule_choice.ACTIVE, rule_choice.WEIGHT]
            ),
            "it multiplies or divides by something that is not constant",
        ),
        (lambda: gemm(node_of("Gemm", transA=1), torch.mm), "its activations are transposed"),
        (
            lambda: gemm(node_of("Gemm"), torch.mm).forward([BOUNDED, None]),
            "an input is missing",
        ),
        (
            lambda: normalise(node_of("BatchNormalization", training_mode=1), torch.mul),
            "it computes statistics of the batch",
        ),
        (
            lambda: normalise(node_of("BatchNormalization"), torch.mul).forward([BOUNDED] * 5),
            "its parameters are not constant",
        ),
        (
            lambda: max_pool(
                replace(node_of("MaxPool", kernel_shape=[2, 2]), outputs=("y", "i")), torch.exp
            ),
            "the places of its maxima are used",
        ),
        (
            lambda: max_pool(node_of("MaxPool", kernel_shape=[2] * 4), torch.exp),
            "pooling over more than three axes is not bounded",
        ),
        (
            lambda: largest(node_of("ReduceMax", ("x", "a")), torch.amax).forward([BOUNDED] * 2),
            "its axes are not constant",
        ),
        (
            lambda: product_of_einsum(einsum_step("abc,bcd->bd", ("x", "W")), {"W": (2, 3, 4)}),
            "sums over one operand alone",
        ),
        (
            lambda: product_of_einsum(einsum_step("bck,bkd->bcd", ("x", "W")), {"W": None}),
            "the shape of its weight is not known",
        ),
        (
            lambda: product_of_einsum(einsum_step("cbk,bkd->bcd", ("x", "W")), {"W": (2, 3, 4)}),
            "its first operand does not have its samples in front",
        ),
        (
            lambda: product_of_einsum(einsum_step("bck,bkd->cbd", ("x", "z")), {}),
            "its operands do not have their samples in front",
        ),
        (
            lambda: layer_norm(node_of("LayerNormalization", axis=0), torch.mul).forward([BOUNDED]),
            "it is taken over the samples",
        ),
        (
            lambda: layer_norm(node_of("LayerNormalization"), torch.mul).forward([BOUNDED] * 2),
            "its parameters are not constant",
        ),
        (
            lambda: softmax(node_of("Softmax", axis=0), torch.exp).forward([BOUNDED]),
            "it is taken over several axes or over the samples",
        ),
        (
            lambda: Clip(node_of("Clip", ("x", "a")), torch.clamp).forward([BOUNDED, KNOWN]),
            "its limits are not constant numbers",
        ),
        (
            lambda: dequantise(node_of("DequantizeLinear"), torch.mul).forward([BOUNDED, -KNOWN]),
            "its step is not constant and positive",
        ),
    ],
)
def test_rules_refuse_what_they_do_not_bound(call: Callable[[], object], reason: str) -> None:
    """Forms that opening a network refuses first, and what a rule alone knows of its inputs."""
    with pytest.raises(CannotBoundError, match=reason):
        call()


def test_exact_values_are_needed_where_no_rule_bounds() -> None:
    wide = Interval(KNOWN, KNOWN + 1)
    with pytest.raises(CannotBoundError, match="an input is not known exactly"):
        operator_comparison._points([wide])
    given = Given(torch.exp, is_exact=False, is_product=False, base=None)
    with pytest.raises(CannotBoundError, match="it reads what is rounded before it"):
        given.forward([wide])


@pytest.mark.parametrize(
    ("io", "body", "constants"),
    [
        (FLAT, "h = MatMul(x, w) d, mask = Dropout(h) y = Relu(d)", {}),
        (
            FLAT,
            "h = MatMul(x, w) y, mean, deviation = LayerNormalization(h, a, b)",
            {"a": FOUR["a"], "b": FOUR["b"]},
        ),
        (IMAGE, "h = Conv(x, k) y, where = MaxPool<kernel_shape = [2, 2]>(h)", {}),
    ],
)
def test_outputs_that_nobody_reads_cost_no_bound(
    opened: Opener, io: str, body: str, constants: Mapping[str, np.ndarray]
) -> None:
    weights = KERNEL if "Conv" in body else {"w": RNG.normal(size=(4, 4)).astype(np.float32)}
    shape = (4, 2, 4, 4) if io == IMAGE else (4, 4)
    bounded = open_bounds(
        *opened(
            f'<ir_version: 8, opset_import: ["" : 17]> net {io} {{ {body} }}',
            {**weights, **constants},
            {"x": RNG.normal(size=shape).astype(np.float32)},
            np.zeros((4, *((2, 3, 3) if io == IMAGE else (4,)))),
            decision=Decision(read="value", metric="rmse"),
        )
    )
    assert not isinstance(bounded, Refusal), bounded
