"""Which converter each node of the zoo networks has, and how onnx2torch's other converters do.

    python tests/benchmarks/converter_sources.py nodes [ZOO]
    python tests/benchmarks/converter_sources.py operators

`nodes`: the twin of each network as `cimrobust analyze` makes it, node by node. `operators`: every
operator of onnx2torch that the twin does not take from it, on the cases of the ONNX standard that
our converter passes: is it the same, bit by bit, in outputs and gradients?
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from cimrobust.onnx_io.load_network import load_network  # noqa: E402
from cimrobust.onnx_io.normalise import normalised  # noqa: E402
from cimrobust.twin.ops import converter_registry as registry  # noqa: E402
from cimrobust.twin.ops import library  # noqa: E402
from cimrobust.twin.ops.onnx2torch_ops import TAKEN  # noqa: E402
from cimrobust.twin.ops.twin_step import Step  # noqa: E402
from cimrobust.twin.to_torch import Twin, to_torch  # noqa: E402

Run = tuple[list[Any], list[torch.Tensor | None]]


def source_of(step: Step, outside: set[str]) -> str:
    """Return where the kernel of a step comes from."""
    node = step.node
    if node.name in outside:
        return "onnxruntime"
    if not node.domain and node.op in {*TAKEN, "RoiAlign"}:
        return "onnx2torch"
    return "own" if registry.find(node.domain, node.op, node.version) else "function body"


def nodes_table(zoo: Path) -> None:
    kinds = ("onnx2torch", "own", "function body", "onnxruntime")
    print("| network | nodes | " + " | ".join(kinds) + " | own operators |")
    print("|---|---|---|---|---|---|---|")
    total: Counter[str] = Counter()
    for entry in json.loads((zoo / "manifest.json").read_text())["models"]:
        twin = to_torch(load_network(zoo / entry["file"]).model, outside=True)
        outside = {node.name for node in twin.outside}
        steps = twin._program.steps
        count = Counter(source_of(step, outside) for step in steps)
        own = Counter(step.node.op for step in steps if source_of(step, outside) == "own")
        names = ", ".join(f"{op} {number}" for op, number in own.most_common())
        cells = " | ".join(str(count[kind]) for kind in kinds)
        print(f"| {entry['name']} | {len(steps)} | {cells} | {names} |")
        total += count
    print(f"| all | {total.total()} | " + " | ".join(str(total[kind]) for kind in kinds) + " | |")


def run(twin: Twin, values: dict[str, Any]) -> Run:
    """Return outputs, and gradients of the sum of their squares for all floating-point inputs."""
    leaves = [
        value.requires_grad_()
        for value in values.values()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    ]
    made = twin(values)
    outputs = [made[name] for name in twin.outputs]
    sums = [
        value.double().square().sum()
        for value in outputs
        if isinstance(value, torch.Tensor) and value.requires_grad
    ]
    if not sums:
        return outputs, []
    return outputs, list(torch.autograd.grad(sum(sums), leaves, allow_unused=True))


def is_same(a: Any, b: Any) -> bool:
    """Return whether two results are equal bit by bit; NaN equals NaN."""
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(is_same, a, b))
    if a is None or b is None:
        return a is b
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(a.isnan(), b.isnan())
        and (torch.equal(a.nan_to_num(), b.nan_to_num()))
    )


def compare(case: Any, to_input: Callable[[Any], Any]) -> str | None:
    """Return how onnx2torch's converter does on a case, None where ours does not run it."""
    model = normalised(case.model)
    node = model.graph.node[0]
    names = [value.name for value in case.model.graph.input]
    key = ("", node.op_type)
    for inputs, _ in case.data_sets:
        feeds = [{name: to_input(v) for name, v in zip(names, inputs, strict=True)} for _ in "ab"]
        try:
            ours = run(to_torch(model), feeds[0])
        except Exception:
            return None
        kept = registry._TABLE.pop(key)
        registry.operator(node.op_type)(library.kernel_of)
        try:
            theirs = run(to_torch(model), feeds[1])
        except Exception as error:  # whatever a converter or a kernel of theirs raises
            return f"refused or failed: {str(error).split('onnx2torch: ')[-1].splitlines()[0][:90]}"
        finally:
            registry._TABLE[key] = kept
        if not is_same(ours[0], theirs[0]):
            return "other outputs"
        if not is_same(ours[1], theirs[1]):
            return "other gradients"
    return "same"


def operators_table() -> None:
    from tests.unit.twin.test_standard_cases import CASES, to_input  # noqa: PLC0415

    print("| operator | versions | cases | same | otherwise, first |")
    print("|---|---|---|---|---|")
    for domain, op in sorted(library.theirs()):
        if domain or op in TAKEN or not registry.find("", op, onnx.defs.onnx_opset_version()):
            continue
        found = {case.name: compare(case, to_input) for case in CASES[op]}
        said = {name: how for name, how in found.items() if how is not None}
        other = next((f"{name}: {how}" for name, how in said.items() if how != "same"), "")
        same = sum(how == "same" for how in said.values())
        versions = ", ".join(map(str, sorted(library.theirs()["", op])))
        print(f"| {op} | {versions} | {len(said)} | {same} | {other} |")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["operators"]:
        operators_table()
    elif sys.argv[1:2] == ["nodes"]:
        nodes_table(Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT.parent / "shared" / "zoo")
    else:
        sys.exit(__doc__)
