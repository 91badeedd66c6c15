"""What the scores of trials depend on: another seed, network, sample or device is another run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cimrobust.engine.converter_proof import Converters
from cimrobust.engine.open import Runtime
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo.trial_identity import PARTS, TrialIdentity, identity_of
from tests.unit.search.conftest import (  # noqa: F401
    MLP,
    Opener,
    mlp_weights,
    opened,
    samples,
)

Opened = tuple[Runtime, Placement]


@pytest.fixture
def here(opened: Opener) -> Opened:  # noqa: F811
    return opened(MLP, mlp_weights(), {"x": samples(8, 6)})


def parts_of(runtime: Runtime, placement: Placement, seed: int = 3) -> dict[str, str]:
    return dict(identity_of(runtime, placement, seed).parts)


def changed(one: dict[str, str], other: dict[str, str]) -> set[str]:
    assert one.keys() == other.keys()
    return {part for part in one if one[part] != other[part]}


def with_data(runtime: Runtime, **changes: Any) -> Runtime:
    return replace(runtime, dataset=replace(runtime.dataset, **changes))


def test_every_part_is_there_and_the_same_run_is_the_same(here: Opened) -> None:
    parts = parts_of(*here)
    assert parts.keys() == PARTS.keys()
    assert parts == parts_of(*here)
    assert parts["seed"] == "3"
    assert parts["converters"] == "none"


def test_another_seed_is_another_run(here: Opened) -> None:
    assert changed(parts_of(*here), parts_of(*here, seed=4)) == {"seed"}


def test_other_weights_are_another_network_on_other_devices(
    here: Opened,
    opened: Opener,  # noqa: F811
) -> None:
    labels = here[0].task.labels
    other = opened(MLP, mlp_weights(2), {"x": samples(8, 6)}, labels)
    assert changed(parts_of(*here), parts_of(*other)) >= {"model", "devices"}
    assert "seed" not in changed(parts_of(*here), parts_of(*other))


def test_a_wider_tolerance_is_other_devices(here: Opened, opened: Opener) -> None:  # noqa: F811
    other = opened(MLP, mlp_weights(), {"x": samples(8, 6)}, tolerance=0.06)
    assert changed(parts_of(*here), parts_of(*other)) == {"devices"}


def test_other_samples_labels_and_their_shapes_are_other_data(here: Opened) -> None:
    runtime, placement = here
    x = runtime.dataset.inputs["x"]
    before = parts_of(runtime, placement)
    others: list[Runtime] = [
        with_data(runtime, inputs={"x": x + 1}),
        with_data(runtime, inputs={"x": x.reshape(8, 2, 3)}),
        with_data(runtime, inputs={"x": x.view(np.int32)}),
        with_data(runtime, inputs={"y": x}),
        with_data(runtime, constants={"c": x}),
        replace(runtime, task=replace(runtime.task, labels=(runtime.task.labels + 1) % 4)),
    ]
    found = [parts_of(other, placement) for other in others]
    assert [changed(before, parts) for parts in found] == [{"samples"}] * len(others)
    assert len({parts["samples"] for parts in found}) == len(others)


class _Ranges(Converters):
    """Converters that know nothing but a range."""

    def __init__(self, high: float) -> None:
        object.__setattr__(self, "high", high)

    def to_dict(self) -> dict[str, Any]:
        return {"high": self.high}  # type: ignore[attr-defined]


def test_other_ranges_of_converters_are_another_run(here: Opened) -> None:
    runtime, placement = here
    narrow, wide = (
        parts_of(replace(runtime, converters=_Ranges(high)), placement) for high in (1.0, 2.0)
    )
    assert changed(narrow, wide) == {"converters"}
    assert changed(narrow, parts_of(*here)) == {"converters"}


def test_the_digest_of_all_parts_does_not_depend_on_their_order() -> None:
    parts = {name: name.upper() for name in PARTS}
    backwards = dict(reversed(parts.items()))
    assert TrialIdentity(parts).digest == TrialIdentity(backwards).digest
    assert TrialIdentity(parts).digest != TrialIdentity({**parts, "seed": "4"}).digest
