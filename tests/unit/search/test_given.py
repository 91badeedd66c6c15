from __future__ import annotations

import numpy as np
import pytest

from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.mapping.box import box_of
from cimrobust.mapping.placement import Placement
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.search.unit import rescaled
from tests.unit.search.conftest import MLP, Opener, mlp_weights, samples

Small = tuple[Runtime, Placement]


def test_a_start_is_never_lost(small: Small, cheap: None) -> None:
    runtime, placement = small
    best = search(Subject(runtime, placement), Run(seed=3, effort="quick"))
    result = search(
        Subject(runtime, placement),
        Run(seed=4, effort="quick"),
        starts={"earlier": best.deviations},
    )
    (entry,) = (member for member in result.members if member.name == "earlier")
    assert entry.score == best.engine_score
    assert (entry.passes, entry.evaluations) == (0, 1)
    assert result.score.value <= best.score.value


def test_continuation_goes_on_from_a_start(small: Small, cheap: None) -> None:
    runtime, placement = small
    best = search(Subject(runtime, placement), Run(seed=3, effort="standard"))
    result = search(
        Subject(runtime, placement),
        Run(seed=4, effort="quick"),
        starts={"earlier": best.deviations},
    )
    continuation = next(member for member in result.members if member.name == "continuation")
    assert continuation.note.startswith("after earlier")
    assert continuation.score is not None
    assert continuation.score.value <= best.score.value


def test_a_start_from_a_smaller_tolerance_is_stretched(opened: Opener, cheap: None) -> None:
    near, far = (
        opened(MLP, mlp_weights(), {"x": samples(200, 6)}, tolerance=tolerance)
        for tolerance in (0.02, 0.04)
    )
    boxes = [box_of(placement) for _, placement in (near, far)]
    found = search(Subject(*near), Run(effort="quick")).deviations
    start = rescaled(found, of=boxes[0], to=boxes[1])
    boxes[1].check(start, origin="test")
    for name, deviation in found.items():
        np.testing.assert_allclose(start[name], 2 * deviation, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(
            start[name] == boxes[1].hi[name], deviation == boxes[0].hi[name]
        )
    result = search(Subject(*far), Run(effort="quick"), starts={"at_2_percent": start})
    assert result.score.value <= far[0].score(boxes[1].weights(start)).value


def test_where_there_is_no_twin_corners_are_searched_from_the_start(
    opened: Opener, cheap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, placement = opened(MLP, mlp_weights(), {"x": samples(200, 6)}, tolerance=0.05)
    found = search(Subject(runtime, placement), Run(effort="quick"))
    monkeypatch.setattr("cimrobust.twin.ops.program.SOURCES", [lambda node, proto, scope: None])
    result = search(
        Subject(runtime, placement), Run(effort="quick"), starts={"earlier": found.deviations}
    )
    corner = next(member.score for member in result.members if member.name == "corner_search")
    assert not result.has_twin
    assert corner is not None
    assert corner.value <= found.score.value


def test_a_start_far_outside_is_brought_to_the_border(small: Small, cheap: None) -> None:
    far = {
        name: np.full(tensor.shape, 1e3, np.float32) for name, tensor in small[1].tensors.items()
    }
    result = search(Subject(*small), Run(effort="quick"), starts={"far": far})
    assert result.members[0].note == "start, brought to the border of the box"


def test_starts_of_another_network_or_with_a_taken_name_are_refused(small: Small) -> None:
    zero = box_of(small[1]).zero()
    with pytest.raises(UsageError, match="must have a name of its own, got 'dlr'"):
        search(Subject(*small), Run(effort="quick"), starts={"dlr": zero})
    with pytest.raises(UsageError, match=r"must deviate the weights \['w1', 'w2'\]"):
        search(Subject(*small), Run(effort="quick"), starts={"other": {"w1": zero["w1"]}})
    with pytest.raises(UsageError, match="box to rescale to must have the weights"):
        rescaled(zero, of=box_of(small[1]), to=type(box_of(small[1]))({"w1": zero["w1"]}, {}, {}))
