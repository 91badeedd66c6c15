"""Attention of the standard as products, a Softmax and moves, which have rules."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.step_parts import Fixed, made_of, part_name, sizes_of

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel, Node
    from cimrobust.twin.ops.twin_step import Step

#: What is added to scores that a mask puts out: they get no share, as with minus infinity.
_NO_SCORE = -1e9
# Inputs of earlier keys and values, and of lengths; ONNX type of truth values.
_REST, _BOOL = (4, 5, 6), 9
_MASK = 3


def attention_written_out(step: Step, _fixed: Fixed) -> list[Step]:
    """Return scaled dot products, mask, Softmax and mean of values, a head an axis.

    Raises:
        CannotBoundError: It reads earlier keys, or makes more than its first output.
    """
    node = step.node
    if any(node.has(place) for place in _REST) or any(node.wants(place) for place in (1, 2, 3)):
        raise CannotBoundError("it reads or makes keys and values of other steps")
    return _Writer(node).steps()


class _Writer:
    """Writes one node out."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._made: list[Step] = []
        self._heads = int(node.get("q_num_heads", 0))
        self._kept = int(node.get("kv_num_heads", 0))

    def steps(self) -> list[Step]:
        """Return all steps."""
        node = self._node
        query = self._part("Transpose", "query", (node.inputs[0],), _apart(self._heads))
        sizes = sizes_of(node, query)
        self._made.append(sizes)
        size = sizes.node.outputs[0]
        apart = _apart(self._kept)
        keys = self._part(
            "Expand", "keys", (node.inputs[1], size), lambda x, q: _repeated(apart(x), q).mT
        )
        values = self._part(
            "Expand", "values", (node.inputs[2], size), lambda x, q: _repeated(apart(x), q)
        )
        scores = self._part("MatMul", "products", (query, keys), torch.matmul)
        scores = self._part("Neg", "scaled", (scores, size), self._scaled)
        scores = self._masked(self._capped(scores))
        shares = self._part("Softmax", "shares", (scores,), lambda x: x.softmax(-1), axis=-1)
        mean = self._part("MatMul", "means", (shares, values), torch.matmul)
        joined: Kernel = (lambda x: x.transpose(1, 2).flatten(2)) if self._heads else (lambda x: x)
        self._made.append(made_of(node, "Transpose", (mean,), node.outputs[0], joined))
        return self._made

    def _scaled(
        self, scores: Float[Tensor, "samples heads queries keys"], size: Int64[Tensor, "axes"]
    ) -> Float[Tensor, "samples heads queries keys"]:
        return scores * float(self._node.get("scale") or 1.0 / math.sqrt(int(size[-1])))

    def _capped(self, scores: str) -> str:
        cap = float(self._node.get("softcap", 0.0))
        if not cap:
            return scores
        small = self._part("Neg", "in caps", (scores,), lambda x: x / cap)
        bent = self._part("Tanh", "bent", (small,), torch.tanh)
        return self._part("Neg", "capped", (bent,), lambda x: x * cap)

    def _masked(self, scores: str) -> str:
        node = self._node
        if node.get("is_causal", 0):
            scores = self._part("Where", "causal", (scores,), _causal)
        if not node.has(_MASK):
            return scores
        kind = node.input_types[_MASK] if len(node.input_types) > _MASK else None
        if kind == _BOOL:
            return self._part("Where", "masked", (scores, node.inputs[_MASK]), _where)
        return self._part("Add", "masked", (scores, node.inputs[_MASK]), torch.add)

    def _part(
        self, op: str, what: str, inputs: tuple[str, ...], kernel: Kernel, **attributes: int
    ) -> str:
        name = part_name(self._node, what)
        made = made_of(self._node, op, inputs, name, kernel)
        self._made.append(replace(made, node=replace(made.node, attributes=attributes)))
        return name


def _apart(heads: int) -> Kernel:
    """Return what makes an axis of heads, in front of positions; 0: there is one already."""
    if not heads:
        return lambda x: x
    return lambda x: x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _repeated(
    x: Float[Tensor, "samples kept keys units"], size: Int64[Tensor, "axes"]
) -> Float[Tensor, "samples heads keys units"]:
    """Return keys or values once for every head that shares them."""
    return x.repeat_interleave(int(size[1]) // x.shape[1], dim=1)


def _causal(
    scores: Float[Tensor, "samples heads queries keys"],
) -> Float[Tensor, "samples heads queries keys"]:
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return torch.where(seen, scores, _NO_SCORE)


def _where(
    scores: Float[Tensor, "samples heads queries keys"], seen: Bool[Tensor, "..."]
) -> Float[Tensor, "samples heads queries keys"]:
    return torch.where(seen, scores, _NO_SCORE)
