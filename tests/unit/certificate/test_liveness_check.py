"""What the certificate says of the check that stored tensors are wired to the output."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cimrobust.certificate.blocks.limits_block import liveness_check
from cimrobust.engine.checks import TensorLiveness


@pytest.mark.parametrize(
    ("moves", "detail"),
    [
        (["vertex", "replaced"], "2 of 2 stored tensors move the output"),
        (
            ["vertex", "none"],
            "1 of 2 stored tensors move the output; the output does not depend on w1",
        ),
    ],
)
def test_what_was_seen_is_counted(moves: Sequence[str], detail: str) -> None:
    check = liveness_check(of(moves))
    assert check.text == "Moving each stored tensor moves the decision output."
    assert check.detail == detail


def test_what_was_only_traced_is_not_claimed_to_be_seen() -> None:
    check = liveness_check(of(["vertex", "traced", "traced", "none"]))
    assert check.text == (
        "Each stored tensor that was moved alone moves the decision output; others are traced."
    )
    assert check.detail.startswith("1 of 4 stored tensors move the output; 2 are traced: ")
    assert "was not seen" in check.detail
    assert check.detail.endswith("were moved one by one; the output does not depend on w3")


def of(moves: Sequence[str]) -> tuple[TensorLiveness, ...]:
    return tuple(TensorLiveness(f"w{i}", move, 1.0) for i, move in enumerate(moves))
