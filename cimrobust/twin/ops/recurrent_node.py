"""What an LSTM, GRU or RNN node states."""

from __future__ import annotations

from dataclasses import dataclass

from cimrobust.twin.ops.activation_ops import by_name
from cimrobust.twin.ops.converter_registry import CannotConvertError, Kernel, Node

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
# Order of the gates in torch, as positions in ONNX's order (LSTM: i o f c to i f c o; GRU: z r h to
# r z h).
TORCH_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
NEED_ALPHA = {"affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"}
NEED_BETA = {"affine", "scaledtanh", "hardsigmoid"}


@dataclass(frozen=True)
class Cell:
    """Attributes of a recurrent node.

    Attributes:
        op: LSTM, GRU or RNN.
        hidden: Number of hidden units.
        directions: Whether each direction runs backwards in time.
        activations: Functions of each direction.
        names: Their names, lower case, all directions.
        clip: Limit of the sums that go into the activations, or None.
        input_forget: LSTM: the forget gate is one minus the input gate.
        linear_before_reset: GRU: the reset gate acts after the product.
    """

    op: str
    hidden: int
    directions: tuple[bool, ...]
    activations: tuple[tuple[Kernel, ...], ...]
    names: tuple[str, ...]
    clip: float | None
    input_forget: bool
    linear_before_reset: bool

    @property
    def is_usual(self) -> bool:
        """Whether the cell has the usual activations, and no limits."""
        usual = [name.lower() for name in DEFAULTS[self.op]]
        each = {
            tuple(self.names[start : start + len(usual)])
            for start in range(0, len(self.names), len(usual))
        }
        known = each == {tuple(usual)} or (self.op == "RNN" and each == {("relu",)})
        return known and self.clip is None and not self.input_forget

    @property
    def is_torch(self) -> bool:
        """Whether torch's own kernels compute the cell."""
        return self.is_usual and (self.op != "GRU" or self.linear_before_reset)


def read_cell(node: Node) -> Cell:
    """Read the attributes of a recurrent node."""
    op, direction = node.op, node.get("direction", "forward")
    directions = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[
        direction
    ]
    names = [name.lower() for name in node.get("activations") or DEFAULTS[op] * len(directions)]
    alphas, betas = (
        list(node.get("activation_alpha") or []),
        list(node.get("activation_beta") or []),
    )
    functions = []
    for name in names:
        alpha = alphas.pop(0) if name in NEED_ALPHA and alphas else None
        beta = betas.pop(0) if name in NEED_BETA and betas else None
        try:
            functions.append(by_name(name, alpha, beta))
        except KeyError:
            raise CannotConvertError(f"activation {name!r} is not covered") from None
    each = len(DEFAULTS[op])
    return Cell(
        op=op,
        hidden=int(node.get("hidden_size")),
        directions=directions,
        activations=tuple(
            tuple(functions[start : start + each]) for start in range(0, len(functions), each)
        ),
        names=tuple(names),
        clip=node.get("clip"),
        input_forget=bool(node.get("input_forget", 0)),
        linear_before_reset=bool(node.get("linear_before_reset", 0)),
    )
