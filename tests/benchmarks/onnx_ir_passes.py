"""onnx-ir's passes against our own normalisation, on files that the loader takes.

    python tests/benchmarks/onnx_ir_passes.py FOLDER...

For each pass, and for all in a row: on how many files it runs, whether onnxruntime (unoptimised,
one thread) then gives the same outputs bit by bit on random inputs, and whether what it is for is
done. The last row is `cimrobust.onnx_io.normalise.normalised`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx_ir.passes import common

from cimrobust.errors import CimrobustError
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.normalise import is_sorted, normalised
from cimrobust.onnx_io.walk import all_graphs, all_nodes, defined_names

Check = Callable[[onnx.ModelProto], bool]
Arrays = dict[str, np.ndarray]


def no_functions(model: onnx.ModelProto) -> bool:
    return not model.functions


def no_constants(model: onnx.ModelProto) -> bool:
    return all(node.op_type != "Constant" for node in all_nodes(model.graph))


def no_initializers_in_bodies(model: onnx.ModelProto) -> bool:
    return not any(graph.initializer for graph in list(all_graphs(model.graph))[1:])


def no_initializers_among_inputs(model: onnx.ModelProto) -> bool:
    given = {tensor.name for tensor in model.graph.initializer}
    return not any(value.name in given for value in model.graph.input)


def in_order(model: onnx.ModelProto) -> bool:
    return all(is_sorted(graph) for graph in all_graphs(model.graph))


def one_name_a_tensor(model: onnx.ModelProto) -> bool:
    names = [name for graph in all_graphs(model.graph) for name in defined_names(graph)]
    nodes = [node.name for node in all_nodes(model.graph)]
    return len(names) == len(set(names)) and len(nodes) == len(set(nodes)) and all(nodes)


def outputs_made_by_nodes(model: onnx.ModelProto) -> bool:
    made = {name for node in model.graph.node for name in node.output}
    return all(value.name in made for value in model.graph.output)


def anything(_model: onnx.ModelProto) -> bool:
    return True


PASSES: dict[str, tuple[Any, Check]] = {
    "InlinePass": (common.InlinePass, no_functions),
    "LiftConstantsToInitializersPass": (
        lambda: common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        no_constants,
    ),
    "LiftSubgraphInitializersToMainGraphPass": (
        common.LiftSubgraphInitializersToMainGraphPass,
        no_initializers_in_bodies,
    ),
    "RemoveInitializersFromInputsPass": (
        common.RemoveInitializersFromInputsPass,
        no_initializers_among_inputs,
    ),
    "TopologicalSortPass": (common.TopologicalSortPass, in_order),
    "RemoveUnusedNodesPass": (common.RemoveUnusedNodesPass, anything),
    "NameFixPass": (common.NameFixPass, one_name_a_tensor),
    "OutputFixPass": (common.OutputFixPass, outputs_made_by_nodes),
}


def with_pass(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    made = ir.from_proto(model)
    for name in names:
        made = PASSES[name][0]()(made).model
    return ir.to_proto(made)


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def random_inputs(session: onnxruntime.InferenceSession) -> Arrays:
    draw, feeds = np.random.default_rng(0), {}
    for value in session.get_inputs():
        shape = [dim if isinstance(dim, int) else 2 for dim in value.shape]
        if "float" in value.type or "double" in value.type:
            feeds[value.name] = draw.random(shape).astype(
                np.float64 if "double" in value.type else np.float32
            )
        else:
            kind = {"tensor(bool)": np.bool_, "tensor(int32)": np.int32}.get(value.type, np.int64)
            feeds[value.name] = draw.integers(0, 2, shape).astype(kind)
    return feeds


def outputs_of(model: onnx.ModelProto, feeds: Arrays) -> dict[str, Any]:
    session = session_of(model)
    asked = {value.name for value in session.get_inputs()}
    given = {name: value for name, value in feeds.items() if name in asked}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, given), strict=True))


def is_same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        np.array_equal(value, second[name], equal_nan=np.asarray(value).dtype.kind == "f")
        for name, value in first.items()
    )


def subjects(folders: list[str]) -> list[tuple[str, onnx.ModelProto, Arrays, dict[str, Any]]]:
    found = []
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*.onnx")):
        try:
            load_network(path)
            model = onnx.load(path)
            feeds = random_inputs(session_of(model))
            want, again = outputs_of(model, feeds), outputs_of(model, feeds)
            if is_same(want, again):
                found.append((f"{path.parent.name}/{path.stem}", model, feeds, want))
            else:
                print(f"left out: {path}: its outputs are random")
        except CimrobustError as error:
            print(f"left out: {path}: refused by the loader ({type(error).__name__})")
        except Exception as error:  # whatever onnxruntime raises on a case made to fail
            print(f"left out: {path}: {type(error).__name__}: {str(error)[:100]}")
    return found


def row(name: str, change: Callable[[onnx.ModelProto], onnx.ModelProto], done: Check, found) -> str:
    runs = same = good = 0
    seconds, first = 0.0, ""
    for label, model, feeds, want in found:
        start = time.perf_counter()
        try:
            made = change(model)
        except Exception as error:  # whatever a pass raises
            first = first or f"{label}: {type(error).__name__}: {str(error)[:80]}"
            continue
        seconds += time.perf_counter() - start
        runs += 1
        good += done(made)
        try:
            equal = is_same(want, outputs_of(made, feeds))
        except Exception as error:  # onnxruntime does not take it
            first, equal = first or f"{label}: onnxruntime: {str(error)[:80]}", False
        same += equal
        if not (equal and done(made)):
            first = first or label
    return f"| {name} | {runs} | {same} | {good} | {seconds:.2f} | {first} |"


def main(folders: list[str]) -> None:
    found = subjects(folders)
    print(f"{len(found)} files")
    print("| pass | runs | same outputs | done | seconds | otherwise, first |")
    print("|---|---|---|---|---|---|")
    for name, (_make, done) in PASSES.items():
        print(row(name, lambda model, name=name: with_pass(model, [name]), done, found))

    def everything(model: onnx.ModelProto) -> bool:
        return all(
            check(model) for _, (_, check) in PASSES.items() if check is not outputs_made_by_nodes
        )

    print(row("all in a row", lambda model: with_pass(model, list(PASSES)), everything, found))
    print(row("`normalised`", normalised, everything, found))


if __name__ == "__main__":
    main(sys.argv[1:] or sys.exit(__doc__))
