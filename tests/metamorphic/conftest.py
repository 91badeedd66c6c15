"""One network in many spellings: what is read from each of them must be the same.

What a spelling may change, and what not (docs/explanation/architecture.md, "Spellings"):

- the same in every spelling: layers with their matrices and devices, the radius of the tolerance
  box, the clean score, the score of the quantised weights, certified samples;
- within two samples of each other: the worst found score. Sums in another order lead the steps of
  a search elsewhere, and the random numbers of chips and corners are keyed by the names of
  initializers and by the order of layers and of elements in the file;
- the same to the last bit where nothing but names of nodes and of tensors that are no weights,
  or the order of nodes that do not depend on each other, changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.open import open_network
from cimrobust.engine.subject import Subject
from cimrobust.mapping.place import place
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.run import Run
from cimrobust.search import search_budget as budget
from cimrobust.search.ensemble import search

#: Decisions of a spelling's worst found score may differ by so many samples.
WORST_WITHIN = 2

Model = onnx.ModelProto | Path


@dataclass(frozen=True)
class Reading:
    """What the product says of one spelling.

    Attributes:
        layers: Matrices, word lines, bit lines, devices and box radius of every layer, sorted.
        clean: Correct decisions of the file.
        quantised: Correct decisions of the quantised weights.
        worst: Correct decisions of the worst pattern found.
        has_twin: Whether gradients searched.
    """

    layers: tuple[tuple[int, int, int, int, float], ...]
    clean: int
    quantised: int
    worst: int
    has_twin: bool


@pytest.fixture(autouse=True)
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the search of these tests take few steps."""
    monkeypatch.setitem(budget._LEVELS, "quick", few_steps())


def few_steps() -> budget.Budget:
    """Return a budget of few steps."""
    return replace(
        budget.budget_of("quick"),
        smooth=(14,),
        hinge=(6,),
        entropy=(8,),
        ratio=(),
        papers=0,
        targets=2,
        probe=2,
        collapse=(6,),
        control=0,
        continuation=(12,),
        evaluations=6,
        random_corners=2,
    )


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Reading]:
    """Return a function that reads a spelling on samples with labels; `unit` is what 1 is worth in
    its weights.
    """

    def run(
        model: Model,
        inputs: Mapping[str, np.ndarray],
        labels: np.ndarray,
        *,
        tolerance: float,
        unit: float = 1.0,
    ) -> Reading:
        path = model if isinstance(model, Path) else tmp_path / "spelling.onnx"
        if not isinstance(model, Path):
            onnx.save(model, path)
        network = load_network(path)
        scan = scan_layers(network)
        device = DeviceTable(tolerance=tolerance, sigma=tolerance / 3)
        placement = place(scan, DeviceProfile("test", "test", device=device))
        source = DataSource("test", {}, {}, len(labels))
        dataset = DataSet(inputs, {}, labels, Decision(), source)
        runtime = open_network(network, scan, placement, dataset)
        result = search(Subject(runtime, placement), Run(effort="quick"))
        rows = (
            (
                layer.num_groups,
                layer.num_rows,
                layer.num_cols,
                layer.num_devices,
                round(layer.box_radius * unit, 6),
            )
            for layer in placement.tensors.values()
        )
        scores = (runtime.clean, runtime.quantised, result.score)
        assert all(score.count is not None for score in scores)
        clean, quantised, worst = (int(score.count or 0) for score in scores)
        return Reading(tuple(sorted(rows)), clean, quantised, worst, result.has_twin)

    return run


@pytest.fixture(scope="session")
def known() -> dict[str, Any]:
    """What was read of the first spelling of every family, so that each is read once."""
    return {}


@pytest.fixture
def same(read: Callable[..., Reading], known: dict[str, Any]) -> Callable[..., None]:
    """Return a function that asserts that two spellings are read as the same network."""

    def check(
        family: str,
        first: Callable[[], Model],
        other: Model,
        inputs: Mapping[str, np.ndarray],
        labels: np.ndarray,
        *,
        tolerance: float,
        first_inputs: Mapping[str, np.ndarray] | None = None,
        first_labels: np.ndarray | None = None,
        unit: float = 1.0,
    ) -> None:
        if family not in known:
            given = inputs if first_inputs is None else first_inputs
            known[family] = read(
                first(),
                given,
                labels if first_labels is None else first_labels,
                tolerance=tolerance,
            )
        expected: Reading = known[family]
        got = read(other, inputs, labels, tolerance=tolerance, unit=unit)
        assert got.layers == expected.layers
        assert (got.clean, got.quantised) == (expected.clean, expected.quantised)
        assert got.has_twin == expected.has_twin
        assert abs(got.worst - expected.worst) <= WORST_WITHIN

    return check
