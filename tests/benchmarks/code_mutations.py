"""What a mutant may change: one place of one module, as text."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
_PAIRS = (
    *(("min", "max"), ("minimum", "maximum"), ("amin", "amax"), ("argmin", "argmax")),
    *(("any", "all"), ("floor", "ceil"), ("zeros", "ones"), ("zeros_like", "ones_like")),
)
_NAMED = dict(_PAIRS) | {second: first for first, second in _PAIRS}
# These may stand where they bind more loosely than what is around them.
_LOOSE = (ast.Compare, ast.BinOp, ast.BoolOp, ast.UnaryOp, ast.Constant, ast.IfExp)


@dataclass(frozen=True, order=True)
class Mutation:
    """One change of one module.

    Attributes:
        path: The module, relative to the checkout.
        line: First line that changes, from 1.
        column: Where in it, in bytes, from 0.
        kind: What is changed.
        before: The source text of that place.
        after: The text in its place.
    """

    path: str
    line: int
    column: int
    kind: str
    before: str
    after: str

    @property
    def name(self) -> str:
        """What tells it from every other mutant of the same sources."""
        return f"{self.path}:{self.line}:{self.column} {self.kind}"

    def applied_to(self, source: str) -> str:
        """Return the source with the change."""
        lines = source.encode().split(b"\n")
        start = sum(len(line) + 1 for line in lines[: self.line - 1]) + self.column
        end = start + len(self.before.encode())
        whole = source.encode()
        assert whole[start:end].decode() == self.before, "the source is the one that was read"
        return (whole[:start] + self.after.encode() + whole[end:]).decode()


def mutations_of(path: Path, name: str) -> list[Mutation]:
    """Return every mutation of a module, in the order of its lines.

    Args:
        path: The file.
        name: What mutations call it.
    """
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    found = []
    for node in _mutable(tree):
        before = ast.get_source_segment(source, node)
        assert before is not None
        for kind, changed in _changes(node, before):
            after = f"({changed})" if isinstance(node, _LOOSE) else changed
            if after != before:
                found.append(Mutation(name, node.lineno, node.col_offset, kind, before, after))
    return sorted(set(found))


def _mutable(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Yield the nodes that may change: no annotations, texts, decorators, imports or messages."""
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "decorator_list", "type_params", "exc", "bases"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST):
                continue
            if isinstance(child, (ast.JoinedStr, ast.Import, ast.ImportFrom)):
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.expr | ast.stmt):
                yield child
            yield from _mutable(child)


def _changes(node: ast.expr | ast.stmt, before: str) -> Iterator[tuple[str, str]]:
    """Yield what a node can be changed into: kind and text."""
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            changed = copy.deepcopy(node)
            changed.ops[index] = _COMPARED[type(operator)]()
            yield f"comparison {index}", ast.unparse(changed)
    elif isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
        if not _is_text(node):
            computed = copy.deepcopy(node)
            computed.op = _COMPUTED[type(node.op)]()
            yield "operator", ast.unparse(computed)
    elif isinstance(node, ast.BoolOp):
        joined = copy.deepcopy(node)
        joined.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "and, or", ast.unparse(joined)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield "sign, not", ast.unparse(node.operand)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield "constant", str(not node.value)
        elif isinstance(node.value, int | float):
            yield "constant up", repr(node.value + 1)
            yield "constant down", repr(node.value - 1)
    elif isinstance(node, ast.IfExp):
        yield "branch", ast.unparse(node.body)
        yield "branch otherwise", ast.unparse(node.orelse)
    else:
        yield from _named(node, before)
        yield from _dropped(node)


def _named(node: ast.expr | ast.stmt, before: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Name) and node.id in _NAMED:
        yield "function", _NAMED[node.id]
    elif isinstance(node, ast.Attribute) and node.attr in _NAMED:
        # The value may stand in brackets, which the tree does not have.
        yield "function", before.removesuffix(node.attr) + _NAMED[node.attr]


def _dropped(node: ast.expr | ast.stmt) -> Iterator[tuple[str, str]]:
    is_written = isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name)
    is_called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    if is_written or is_called or isinstance(node, ast.AugAssign | ast.Raise | ast.Continue):
        yield "statement", "pass"


def _is_text(node: ast.AST) -> bool:
    return any(
        isinstance(part, ast.JoinedStr)
        or (isinstance(part, ast.Constant) and isinstance(part.value, str))
        for part in ast.walk(node)
    )
