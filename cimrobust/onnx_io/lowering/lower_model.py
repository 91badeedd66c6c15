"""Lowering a whole model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from cimrobust.onnx_io.fold import replace_nodes
from cimrobust.onnx_io.lowering import lowering_catalogue  # noqa: F401  (registers the lowerings)
from cimrobust.onnx_io.lowering.job import Job, Stored
from cimrobust.onnx_io.lowering.lowering_errors import RefusedError, StaysError, UnknownTypeError
from cimrobust.onnx_io.lowering.lowering_registry import Entry, entry_of
from cimrobust.onnx_io.shapes import TensorType, infer_types
from cimrobust.onnx_io.walk import (
    NameMaker,
    all_graphs,
    all_nodes,
    defined_names,
    describe,
    op_name,
    opset_versions,
)

# Standard operator set that is imported where a model with operators of other domains imports none.
_OPSET = 17


@dataclass(frozen=True)
class Lowered:
    """What lowering did.

    Attributes:
        notes: What was replaced, one sentence an operator.
        refused: Nodes that use what is not covered, each with the reason.
        bits: Bits of the integers of a weight, where the file states them, by initializer.
        instead: Why the file itself cannot be the reference of what is read here.
        num_new: Numbers that weights have more than what the file holds them as.
    """

    notes: tuple[str, ...]
    refused: tuple[str, ...]
    bits: Mapping[str, int] = field(default_factory=dict)
    instead: tuple[str, ...] = ()
    num_new: int = 0


def lower(model: onnx.ModelProto) -> Lowered:
    """Replace every node that has a lowering, in place, those of bodies included.

    The model must be sorted, with tensor names unique over all bodies and constants as initializers
    of the graph. A node keeps the names of its outputs and of the initializers that it reads; the
    nodes that take its place are named after it.
    """
    replaced: Counter[str] = Counter()
    stored = Stored()
    while True:
        this = _Round(model, stored)
        this.run()
        stored = this.stored
        replaced += this.replaced
        if this.refused or not (this.replaced and this.untyped):
            break
    notes = [
        f"{count} {'node' if count == 1 else 'nodes'} {op} read as standard operators"
        for op, count in sorted(replaced.items())
    ]
    _take_names(model, stored)
    notes += [text.format(f"'{name}'") for name, text in stored.notes.items()]
    return Lowered(
        (*notes, *this.staying, *this.untyped),
        tuple(this.refused),
        stored.bits,
        tuple(stored.instead),
        stored.num_new,
    )


def _take_names(model: onnx.ModelProto, stored: Stored) -> None:
    """Give a weight the name of the initializer that it is read in place of, in place.

    This happens only where nothing else reads that initializer any more and the shapes agree.
    """
    read = {name for node in all_nodes(model.graph) for name in node.input}
    read |= {value.name for inner in all_graphs(model.graph) for value in inner.output}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    made = Counter(source for source, _form, _content in stored.names)
    for (source, _form, _content), name in stored.names.items():
        if (
            source in read
            or source not in stored.sources
            or made[source] > 1
            or tensors[source].dims != tensors[name].dims
        ):
            continue
        model.graph.initializer.remove(tensors[source])
        tensors[name].name = source
        for node in all_nodes(model.graph):
            node.input[:] = [source if read_name == name else read_name for read_name in node.input]
        if name in stored.bits:
            stored.bits[source] = stored.bits.pop(name)
        if name in stored.notes:
            stored.notes[source] = stored.notes.pop(name)


class _Round:
    """One pass over all nodes: lowers those whose types are known.

    What it makes gives the next round the types of what follows.
    """

    def __init__(self, model: onnx.ModelProto, stored: Stored) -> None:
        self._model = model
        self.stored = stored
        self._opset = opset_versions(model).get("", 0)
        self.replaced: Counter[str] = Counter()
        self.refused: list[str] = []
        self.staying: list[str] = []
        self.untyped: list[str] = []

    def run(self) -> None:
        graph = self._model.graph
        self._pending = {
            node.name: entry
            for node in all_nodes(graph)
            if (entry := entry_of(op_name(node), self._opset or _OPSET)) is not None
        }
        if not self._pending:
            return
        if not self._opset:
            self._opset = _OPSET
            self._model.opset_import.append(onnx.helper.make_opsetid("", _OPSET))
        self._types: dict[str, TensorType] = infer_types(self._model, strict=False)
        self._makers = {name: node for node in all_nodes(graph) for name in node.output if name}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._names = NameMaker(
            name for inner in all_graphs(graph) for name in defined_names(inner)
        )
        self._node_names = NameMaker(node.name for node in all_nodes(graph))
        for inner in reversed(
            list(all_graphs(graph))
        ):  # bodies first: the nodes that hold them are copied
            made = [self._lowered(node) for node in inner.node]
            if any(nodes is not None for nodes in made):
                old = list(inner.node)
                replace_nodes(
                    inner,
                    [
                        new
                        for node, nodes in zip(old, made, strict=True)
                        for new in ([node] if nodes is None else nodes)
                    ],
                )

    def _lowered(self, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        """Return what takes the place of a node, None if it stays."""
        entry = self._pending.get(node.name)
        if entry is None:
            return None
        job = Job(
            node,
            self._opset,
            self._types,
            self._makers,
            self._constants,
            self._names,
            self._node_names,
            stored=self.stored.copy(),
        )
        try:
            _make(entry, job)
        except RefusedError as err:
            self.refused.append(f"{describe(node)}: {err}")
            return None
        except StaysError as err:
            self.staying.append(f"{describe(node)} stays as it is: {err}")
            return None
        except UnknownTypeError as err:
            self.untyped.append(
                f"{describe(node)} stays as it is: the type or rank of its input '{err}' is not"
                " known"
            )
            return None
        self.stored = job.stored
        self._model.graph.initializer.extend(job.initializers)
        self.replaced[op_name(node)] += 1
        return job.nodes


def _make(entry: Entry, job: Job) -> None:
    if entry.make is None:
        raise RefusedError(entry.becomes)
    if entry.widens:
        job.widen()
    entry.make(job)
