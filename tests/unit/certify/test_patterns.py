"""Normalisations and powers that exporters write out, seen as one operator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cimrobust.certify.patterns import recognised
from cimrobust.twin.ops.converter_registry import Node, Settings
from cimrobust.twin.ops.twin_step import Step

CONSTANTS = {
    "one": torch.tensor(1.0),
    "two": torch.tensor([2.0]),
    "three": torch.tensor(3.0),
    "four": torch.tensor(4.0),
    "epsilon": torch.tensor(1e-3),
    "none": torch.tensor(0.0),
    "many": torch.full((4,), 2.0),
    "last": torch.tensor([-1]),
    "first": torch.tensor([1]),
}
LAST = {"axes": [-1]}


def step(op: str, inputs: str, output: str, **attributes: Any) -> Step:
    names = tuple(inputs.split())
    node = Node(output, op, "", 18, attributes, names, (output,), (), (), Settings())
    return Step(torch.add, (), (), node)


MEAN = step("ReduceMean", "x last", "m")
CENTRED = step("Sub", "x m", "d")
SQUARES = {"power": step("Pow", "d two", "q"), "product": step("Mul", "d d", "q")}
VARIANCE = step("ReduceMean", "q", "v", axes=[-1], keepdims=1)
SUMS = (step("Add", "v epsilon", "a"), step("Add", "epsilon v", "a"))
ROOT = step("Sqrt", "a", "r")
ENDS: dict[str, list[Step]] = {
    "quotient": [step("Div", "d r", "y")],
    "reciprocal": [step("Reciprocal", "r", "i"), step("Mul", "d i", "y")],
    "reciprocal in front": [step("Reciprocal", "r", "i"), step("Mul", "i d", "y")],
    "one over it": [step("Div", "one r", "i"), step("Mul", "d i", "y")],
}


def written(**changed: Step) -> list[Step]:
    """Return a normalisation step by step, some steps in another form."""
    plain = {"m": MEAN, "d": CENTRED, "q": SQUARES["product"], "v": VARIANCE, "a": SUMS[0]}
    plain |= {"r": ROOT, "y": ENDS["quotient"][0]}
    return list({**plain, **changed}.values())


def ops(steps: list[Step], wanted: str = "y") -> list[str]:
    return [made.node.op for made in recognised(steps, CONSTANTS, wanted)]


@pytest.mark.parametrize("square", SQUARES)
@pytest.mark.parametrize("total", SUMS)
@pytest.mark.parametrize("end", ENDS)
def test_every_spelling_of_a_normalisation_is_one(square: str, total: Step, end: str) -> None:
    steps = [MEAN, CENTRED, SQUARES[square], VARIANCE, total, ROOT, *ENDS[end]]
    (made,) = recognised(steps, CONSTANTS, "y")
    assert (made.node.op, made.node.inputs, made.node.outputs) == (
        "LayerNormalization",
        ("x",),
        ("y",),
    )
    assert made.node.attributes == {"axis": -1, "epsilon": pytest.approx(1e-3)}


def centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def test_it_computes_what_was_written() -> None:
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (made,) = recognised(written(), CONSTANTS, "y")
    moved = centred(x)
    wanted = moved / torch.sqrt((moved * moved).mean(-1, keepdim=True) + 1e-3)
    # The epsilon of the graph is a float32 number.
    torch.testing.assert_close(made.kernel(x), wanted, rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    "source",
    [
        step("Sub", "x z", "d"),
        step("Add", "x m", "d"),
        step("Sub", "z m", "d"),
        step("Relu", "x", "d"),
    ],
)
def test_without_its_own_mean_taken_off_it_is_one_by_the_root_of_squares(source: Step) -> None:
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    *_, made = recognised(written(d=source), CONSTANTS, "y")
    assert (made.node.op, made.node.inputs) == ("RMSNormalization", ("d",))
    wanted = x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-3)
    torch.testing.assert_close(made.kernel(x), wanted, rtol=1e-7, atol=0)


def test_of_what_no_step_makes_it_is_one_by_the_root_of_squares() -> None:
    steps = written(m=step("Relu", "z", "m"), d=step("Relu", "z", "other"))
    assert ops(steps) == ["RMSNormalization"]


@pytest.mark.parametrize(
    "changed",
    [
        {"y": step("Div", "r d", "y")},
        {"y": step("Div", "x r", "y")},
        {"y": step("Div", "d a", "y")},
        {"y": step("Add", "d r", "y")},
        {"y": step("Mul", "d r", "y")},
        {"y": step("Mul", "d other", "y")},
        {"r": step("Exp", "a", "r")},
        {"a": step("Sub", "v epsilon", "a")},
        {"a": step("Add", "v none", "a")},
        {"a": step("Add", "v many", "a")},
        {"a": step("Add", "v x", "a")},
        {"v": step("ReduceSum", "q", "v", axes=[-1])},
        {"v": step("ReduceMean", "q", "v", axes=[1])},
        {"v": step("ReduceMean", "q", "v", axes=[-1], keepdims=0)},
        {"v": step("ReduceMean", "q", "v")},
        {"v": step("ReduceMean", "q first", "v")},
        {"v": step("ReduceMean", "q unknown", "v")},
        {"v": step("ReduceMean", "other", "v", axes=[-1])},
        {"q": step("Pow", "d four", "q")},
        {"q": step("Add", "d d", "q")},
        {"q": step("Mul", "d x", "q")},
        {"q": step("Pow", "x two", "q")},
    ],
)
def test_what_is_not_a_normalisation_stays_as_it_is(changed: dict[str, Step]) -> None:
    made = ops(written(**changed))
    assert "LayerNormalization" not in made
    assert "RMSNormalization" not in made
    assert made[-1] == written(**changed)[-1].node.op


def test_two_over_the_root_is_no_normalisation() -> None:
    ending = [step("Div", "many r", "i"), step("Mul", "d i", "y")]
    assert ops([*written()[:-1], *ending])[-1] == "Mul"
    ending[0] = step("Div", "two r", "i")
    assert ops([*written()[:-1], *ending])[-1] == "Mul"


def test_what_else_reads_a_part_of_it_keeps_that_part() -> None:
    steps = [*written(), step("Add", "y v", "out")]
    assert ops(steps, "out") == [
        "ReduceMean",
        "Sub",
        "Mul",
        "ReduceMean",
        "LayerNormalization",
        "Add",
    ]


@pytest.mark.parametrize(("exponent", "power"), [("two", 2), ("three", 3)])
def test_small_powers_are_products(exponent: str, power: int) -> None:
    values = {"x": torch.tensor([-1.5, 0.0, 2.0])}
    made = recognised([step("Pow", f"x {exponent}", "y")], CONSTANTS, "y")
    assert len(made) == power - 1
    for part in made:
        assert part.node.op == "Mul"
        values[part.node.outputs[0]] = part.kernel(*(values[name] for name in part.node.inputs))
    assert values["y"].tolist() == (values["x"] ** power).tolist()


@pytest.mark.parametrize("exponent", ["one", "four", "many", "x"])
def test_other_powers_stay_as_they_are(exponent: str) -> None:
    assert ops([step("Pow", f"x {exponent}", "y")]) == ["Pow"]


def test_the_exponent_alone_makes_a_power() -> None:
    assert ops([step("Add", "x two", "y")]) == ["Add"]
