"""Operands of integer products that may be signed while the other one is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MICROSOFT = "com.microsoft::"
DEQUANTISERS = frozenset({"DequantizeLinear", f"{MICROSOFT}DequantizeLinear"})
QUANTISERS = frozenset({"QuantizeLinear", f"{MICROSOFT}QuantizeLinear"})


@dataclass(frozen=True)
class Operand:
    """Where an operator has the operand that may be signed while the other one is not.

    Attributes:
        index: Its place among the inputs.
        zero: Place of its zero point.
        other: Place of the other operand; None: it is quantised inside the operator, to u8.
        other_zero: Place of the other one's zero point, which has the type of it; None: there is
            none.
        converted: The session option rewrites the operand also where the other one is signed, and
            no kernel takes the two then.
    """

    index: int
    zero: int
    other: int | None
    other_zero: int | None
    converted: bool = False


OPERANDS: Mapping[str, tuple[Operand, ...]] = {
    "QLinearConv": (Operand(3, 5, 0, 2, converted=True),),
    f"{MICROSOFT}QLinearConv": (Operand(3, 5, 0, 2),),
    "QLinearMatMul": (Operand(3, 5, 0, 2, converted=True),),
    f"{MICROSOFT}QGemm": (Operand(3, 5, 0, 2, converted=True),),
    f"{MICROSOFT}MatMulIntegerToFloat": (Operand(1, 5, 0, 4, converted=True),),
    f"{MICROSOFT}QAttention": (Operand(1, 7, 0, 6),),
    "MatMulInteger": (Operand(1, 3, 0, 2),),
    # The filter is the left operand of the matrix product inside, so that signed data meet an
    # unsigned filter.
    "ConvInteger": (Operand(0, 2, 1, 3),),
    f"{MICROSOFT}DynamicQuantizeMatMul": (Operand(1, 3, None, None),),
    f"{MICROSOFT}DynamicQuantizeLSTM": (Operand(1, 9, None, None), Operand(2, 11, None, None)),
}
