"""Loading an ONNX file that nobody has vouched for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

from cimrobust.errors import CimrobustError
from cimrobust.freed_memory import share_freed
from cimrobust.onnx_io import functions, normalise
from cimrobust.onnx_io.bfloat16 import Widened, widen_bfloat16
from cimrobust.onnx_io.branches import Branches, resolve_branches
from cimrobust.onnx_io.checked_types import check_types, complete_outputs
from cimrobust.onnx_io.einsum_chain import chain_einsums
from cimrobust.onnx_io.external import ExternalFiles
from cimrobust.onnx_io.fold import Constants, fold_shape_arithmetic
from cimrobust.onnx_io.loops import iteration_problems, repeating_nodes
from cimrobust.onnx_io.lowering.lower_model import Lowered, lower
from cimrobust.onnx_io.memory_needs import require_room_for
from cimrobust.onnx_io.model_files import model_kind
from cimrobust.onnx_io.network import FileDigest, Network
from cimrobust.onnx_io.optionals import open_optionals
from cimrobust.onnx_io.parameter_count import count_in_constants, count_initialized
from cimrobust.onnx_io.parsed_model import read_model
from cimrobust.onnx_io.problems import not_covered, refuse
from cimrobust.onnx_io.shapes import (
    TensorType,
    infer_types,
    read_type,
    spec_of,
)
from cimrobust.onnx_io.size_limits import MAX_MODEL_BYTES
from cimrobust.onnx_io.sparse_tensors import dense_sizes, write_out_sparse
from cimrobust.onnx_io.stored_values import StoredValues
from cimrobust.onnx_io.structure import (
    function_problems,
    header_problems,
    hidden_problems,
    name_problems,
    nesting_problems,
    operator_problems,
    runtime_problems,
    shared_name_problems,
    version_problems,
)
from cimrobust.onnx_io.tensors import (
    data_problem,
    decode,
    finite_problem,
    form_problem,
    num_bytes,
)
from cimrobust.onnx_io.training_mode import dropout_at_inference, training_problems
from cimrobust.onnx_io.two_bits import widen_two_bits
from cimrobust.onnx_io.walk import all_nodes, all_tensors, op_name, opset_versions
from cimrobust.onnx_io.weights import fold_computed_weights, weight_problems
from cimrobust.onnx_io.zip_maps import open_zip_maps, zip_map_keys
from cimrobust.printable_text import printable


def load_network(path: Path) -> Network:
    """Read, check and normalise an ONNX model.

    Args:
        path: The .onnx file; external data is looked for in its folder.

    Raises:
        UsageError: There is no such file.
        InputRefusedError: The file or its external data is unsafe, corrupt or contradicts itself;
            all problems are named together.
        ModelNotCoveredError: The file is sound but uses something this version does not cover, all
            of it named.
    """
    path = Path(path)
    try:
        model, known = _parsed(path)
        return _normalise(path, model, (known, *_complete(path, model)))
    except CimrobustError:
        raise
    except Exception as err:  # whatever a library raises on a hostile file is the file's fault
        refuse(
            path,
            [f"it cannot be read as an ONNX model ({type(err).__name__}: {printable(err)[:200]})"],
        )
        raise


def _parsed(path: Path) -> tuple[onnx.ModelProto, FileDigest]:
    """Return the message that a file holds, and the file's digest."""
    try:
        model, digest = read_model(path, model_kind(MAX_MODEL_BYTES))
    except DecodeError:
        refuse(path, ["it is not an ONNX model, or is cut off (protobuf cannot be decoded)"])
        raise
    if not digest.num_bytes:
        refuse(path, ["it is empty"])
    return model, digest


def _complete(path: Path, model: onnx.ModelProto) -> tuple[FileDigest, ...]:
    """Bring all tensor data inside and check it, in place; return the external files' digests."""
    refuse(path, header_problems(model))
    refuse(path, nesting_problems(model.graph))
    tensors = list(all_tensors(model))
    refuse(path, [problem for tensor in tensors if (problem := form_problem(tensor))])
    sizes = [num_bytes(tensor) for tensor in tensors] + dense_sizes(model)
    require_room_for(sizes, where=path)
    share_freed(sum(sizes))
    files = ExternalFiles(path.absolute().parent)
    problems = files.embed(
        tensor for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL
    )
    problems += write_out_sparse(model)
    problems += [problem for tensor in all_tensors(model) if (problem := _content_problem(tensor))]
    refuse(path, problems)
    return files.digests


def _content_problem(tensor: onnx.TensorProto) -> str | None:
    """Return what is wrong with amount and values of the data of a tensor, None if nothing.

    Of one that is still external something was said already.
    """
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    if tensor.external_data:
        return f"tensor '{tensor.name}' is not marked external but names external data"
    return data_problem(tensor) or finite_problem(tensor.name, decode(tensor))


def _normalise(path: Path, model: onnx.ModelProto, files: tuple[FileDigest, ...]) -> Network:
    ir_version, producer = (
        int(model.ir_version),
        f"{model.producer_name} {model.producer_version}".strip(),
    )
    shared_names = shared_name_problems(model)
    notes = _settle_functions(path, model)
    operators: Counter[str] = Counter() if model.functions else _count_operators(model)
    num_in_constants = count_in_constants(model)
    num_parameters = count_initialized(model) + num_in_constants
    notes += _check_and_sort(path, model)
    origins: dict[str, functions.Origin] = {}
    if model.functions:
        model, origins = functions.inline_functions(model)
        operators = _count_operators(model)
        notes.append("the model's own functions were replaced by the nodes they stand for")
        normalise.use_short_domain(model)
        refuse(path, name_problems(model.graph))
    map_keys = zip_map_keys(model)
    unknown = [*runtime_problems(model), *shared_names]
    joined, lowered = _rewrite(path, model, origins, notes)
    num_parameters += sum(item.origin.size for item in joined) + lowered.num_new
    short = widen_two_bits(model)
    if short:
        unknown.append(
            "products with integers of 2 bits"
            f" ({', '.join(short[:5])}{' and more' if len(short) > 5 else ''}) are not exact in"
            " onnxruntime"
        )
    widened = _leave_bfloat16(path, model, notes)
    unknown += widened.instead
    unknown += [*lowered.instead, *(note for note in (_leave_training_mode(path, model),) if note)]
    notes += [f"{reason}; what this tool reads is run in place of the file" for reason in unknown]
    types = check_types(path, model, notes)
    branches = _fold(path, model, types, notes)
    complete_outputs(path, model)
    opsets = opset_versions(model)
    refuse(path, weight_problems(model.graph, opsets, infer_types(model, strict=False)))
    return Network(
        path=path,
        model=model,
        initializers=StoredValues(model.graph),
        inputs=tuple(spec_of(value) for value in model.graph.input),
        outputs=tuple(spec_of(value) for value in model.graph.output),
        opsets=opsets,
        ir_version=ir_version,
        producer=producer,
        files=files,
        operators=dict(sorted(operators.items())),
        num_parameters=num_parameters,
        num_in_constants=num_in_constants,
        notes=tuple(notes),
        runs_as_file=not unknown,
        shared_sizes=branches.shared_sizes,
        map_keys=map_keys,
        stated_bits={**dict.fromkeys(short, 2), **lowered.bits},
        bfloat16_in_file=widened.stored,
    )


def _settle_functions(path: Path, model: onnx.ModelProto) -> list[str]:
    """Leave the functions that a runtime would call, in place; return notes."""
    refuse(path, functions.repeated_functions(model))
    not_covered(path, functions.foreign_functions(model))
    built_in = functions.built_in_operators(model)
    functions.drop_built_in(model)
    not_covered(path, functions.opset_differences(model))
    if not built_in:
        return []
    return [
        "onnxruntime takes operators of its own in place of functions of the file that have their"
        f" names: {', '.join(built_in)}"
    ]


def _count_operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(op_name(node) for node in all_nodes(model.graph))


def _check_and_sort(path: Path, model: onnx.ModelProto) -> list[str]:
    """Check names, operators and value kinds of the file as it is, and sort its nodes.

    Return notes.
    """
    notes: list[str] = []
    not_covered(path, version_problems(opset_versions(model)))
    refuse(
        path,
        [
            *name_problems(model.graph),
            *hidden_problems(model.graph),
            *function_problems(model),
        ],
    )
    wrong, foreign = operator_problems(model)
    refuse(path, wrong)
    not_covered(path, [*foreign, *_input_problems(model.graph)])
    refuse(path, normalise.sort_nodes(model.graph))
    if _clear_negative_dims(model.graph):
        notes.append("negative dims of graph inputs and outputs are read as unknown")
    if model.training_info:
        del model.training_info[:]
        notes.append("training information in the file is not used")
    return notes


def _clear_negative_dims(graph: onnx.GraphProto) -> bool:
    """Turn dims of -1, by which some exporters mean an unknown size, into unknown ones, in place.

    Return whether there were any.
    """
    found = False
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
            if dim.dim_value < 0:
                dim.Clear()
                found = True
    return found


def _input_problems(graph: onnx.GraphProto) -> list[str]:
    """Return graph inputs that are not tensors of a known type."""
    problems: list[str] = []
    for value in graph.input:
        kind = read_type(value)
        if kind is None:
            problems.append(
                f"graph input '{value.name}' is a"
                f" {value.type.WhichOneof('value') or 'value without type'}, not a tensor"
            )
        elif kind.elem_type == onnx.TensorProto.UNDEFINED:
            problems.append(f"graph input '{value.name}' has no element type")
    return problems


def _rewrite(
    path: Path, model: onnx.ModelProto, origins: Mapping[str, functions.Origin], notes: list[str]
) -> tuple[list[functions.Joined], Lowered]:
    """Bring a checked model into normal form, in place.

    Add notes, return the constants of functions, and what lowering did.
    """
    graph = model.graph
    normalise.use_short_domain(model)
    if normalise.drop_initializer_inputs(model):
        notes.append(
            "initializers that were also graph inputs cannot be overridden by a caller any more"
        )
    names = normalise.make_names_unique(graph)
    not_covered(path, normalise.hoist_constants(graph, names))
    joined = functions.join_constants(graph, origins, names)
    notes += functions.joined_notes(joined)
    normalise.separate_outputs(graph, names)
    refuse(path, normalise.sort_nodes(graph))
    opened = open_zip_maps(graph)
    if opened:
        notes.append(
            f"of outputs that map labels to scores the scores are read: {', '.join(opened)}"
        )
    other = {
        value.name
        for value in graph.output
        if read_type(value) is None and value.type.WhichOneof("value") is not None
    }
    if other and len(other) == len(graph.output):
        not_covered(path, [f"graph output '{name}' is not a tensor" for name in sorted(other)])
    if other:
        normalise.drop_outputs(graph, other)
        notes.append(f"outputs that are not tensors are left out: {', '.join(sorted(other))}")
    dead = normalise.drop_dead_parts(graph)
    if dead:
        some = ", ".join(dead[:5]) + (" and more" if len(dead) > 5 else "")
        notes.append(f"{len(dead)} nodes that no output depends on are left out: {some}")
    normalise.drop_unread_outputs(graph)
    open_optionals(graph)
    num_chained = chain_einsums(model)
    if num_chained:
        notes.append(f"{num_chained} Einsums of three operands or more are read as chains of two")
    lowered = lower(model)
    not_covered(path, lowered.refused)
    notes += lowered.notes
    return joined, lowered


def _leave_bfloat16(path: Path, model: onnx.ModelProto, notes: list[str]) -> Widened:
    """Let a network that computes in bfloat16 compute in float32 and round, in place; add notes."""
    widened = widen_bfloat16(model, where=path)
    not_covered(path, widened.problems)
    if widened.values:
        named = ", ".join(f"'{name}'" for name in widened.values)
        notes.append(f"inputs and outputs in bfloat16 are given and read as float32: {named}")
    return widened


def _leave_training_mode(path: Path, model: onnx.ModelProto) -> str:
    """Bring nodes in training mode into inference mode, in place.

    Return a note, empty where there are none.
    """
    not_covered(path, training_problems(model))
    found = dropout_at_inference(model)
    return (
        "Dropout in training mode is left out, as at inference:"
        f" {', '.join(found[:5])}{' and more' if len(found) > 5 else ''}"
        if found
        else ""
    )


def _fold(
    path: Path, model: onnx.ModelProto, types: dict[str, TensorType], notes: list[str]
) -> Branches:
    """Fold everything that the input does not affect, in place; add notes.

    That is shape arithmetic, branches that are taken whatever the input, and computed weights.
    """
    opsets = opset_versions(model)
    fold_shape_arithmetic(model.graph, opsets, types)
    branches = resolve_branches(model, opsets)
    if branches.num_resolved:
        notes.append(f"{branches.num_resolved} branches on constant conditions were resolved")
        types.update(infer_types(model, strict=False))
    if branches.shared_sizes:
        named = ", ".join(f"'{name}'" for name in branches.shared_sizes)
        notes.append(
            "axes of inputs that the file gives one name are taken to have one size, which data"
            f" are checked for: {named}"
        )
    if repeating_nodes(model.graph):
        not_covered(path, iteration_problems(model.graph, Constants(model.graph, opsets, types)))
    notes += fold_computed_weights(model.graph, opsets, types)
    normalise.drop_dead_parts(model.graph)
    normalise.name_nodes(model.graph)
    return branches
