"""What a check of onnxruntime's arithmetic against exact arithmetic found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WrongTensor:
    """A tensor that onnxruntime computed otherwise than its operators say.

    Attributes:
        node: Node that makes it.
        operator: Its operator.
        is_integer: It is computed in integers: rounding explains no more than a level.
        is_product: It is a product of levels, or the quantised value of one, so that integers alone
            decide it.
        elements: Elements that are off, of `total`.
        total: Elements compared.
        difference: Largest difference to exact arithmetic, in levels for integers, else in the
            tensor's own unit.
        allowed: Largest difference that rounding explains there.
    """

    node: str
    operator: str
    is_integer: bool
    is_product: bool
    elements: int
    total: int
    difference: float
    allowed: float

    def __str__(self) -> str:
        unit = " levels" if self.is_integer else ""
        return (
            f"{self.node} ({self.operator}): {self.elements} of {self.total} values are off by up"
            f" to {self.difference:.4g}{unit}, where rounding explains {self.allowed:.2g}"
        )


@dataclass(frozen=True)
class Arithmetic:
    """The model file's run, operator by operator, against exact arithmetic on the same inputs.

    Attributes:
        num_samples: Samples compared; 0: none, see `reason`.
        compared: Tensors compared.
        share: Largest difference seen as a share of what rounding explains; at most 1 where nothing
            is wrong.
        wrong: Tensors that are off by more, in the order of the graph.
        left_out: Operators for which no such limit is derived, with how often they occur.
        reason: Why nothing was compared, None where something was.
    """

    num_samples: int
    compared: int
    share: float
    wrong: tuple[WrongTensor, ...]
    left_out: tuple[tuple[str, int], ...]
    reason: str | None = None

    @property
    def wrong_products(self) -> tuple[WrongTensor, ...]:
        """Products of levels that are off.

        Not the arithmetic that ONNX defines, whatever the order of sums.
        """
        return tuple(tensor for tensor in self.wrong if tensor.is_product)


NOT_ASKED = Arithmetic(0, 0, 0.0, (), (), "it was not asked for")


def not_compared(reason: str) -> Arithmetic:
    """Return the result of a check that could not be made."""
    return Arithmetic(0, 0, 0.0, (), (), reason)
