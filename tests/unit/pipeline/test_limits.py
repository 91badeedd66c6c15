"""Memory and time of a call hold from its beginning to its end, however they are given."""

from __future__ import annotations

from typing import Any

import pytest

import cimrobust
from cimrobust.available_memory import available_memory, held_memory, memory_size
from cimrobust.engine.watchdog import DEFAULT_TIME_LIMIT, current_time_limit
from cimrobust.errors import UsageError
from cimrobust.pipeline.limits import keeps_limits
from cimrobust.settings.commands import ANALYZE


@keeps_limits(ANALYZE)
def seen(**given: Any) -> tuple[int, float]:
    """Return the memory that is left and the time that a run may take, in a call."""
    return available_memory(), current_time_limit()


@pytest.mark.parametrize(
    "given",
    [
        {"memory": "1G", "time_limit": 7.5},
        {"run": cimrobust.Run(memory="1G", time_limit=7.5)},
        {"settings": {"memory": "1G", "time_limit": 7.5}},
        {"memory": "1G", "run": cimrobust.Run(memory="9G", time_limit=7.5)},
    ],
    ids=["keywords", "run", "settings", "keyword first"],
)
def test_a_call_works_within_its_limits(given: dict[str, Any]) -> None:
    memory, seconds = seen(**given)
    assert memory <= memory_size("1G")
    assert seconds == 7.5


def test_what_comes_after_the_call_has_the_old_limits() -> None:
    seen(memory="1M", time_limit=0.1)
    assert current_time_limit() == DEFAULT_TIME_LIMIT
    assert available_memory() > memory_size("1M") - held_memory()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"memory": "much"}, "memory must be like 6G"),
        ({"memory": 6}, "memory must be a text"),
        ({"time_limit": 0.0}, "time-limit must be"),
    ],
)
def test_limits_that_are_none_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        seen(**given)


@pytest.mark.parametrize(
    "name",
    ["analyze", "draw_shard", "plan", "rare", "replay", "retrain", "suggest", "sweep", "verify"],
)
def test_every_function_that_computes_refuses_a_memory_that_is_none(name: str) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "draw_shard": {"out": "out", "shard": "1/2"},
        "rare": {"below": 0.5},
        "retrain": {"out": "out"},
        "suggest": {"policy": "policy.toml"},
        "sweep": {"tolerances": [0.01]},
        "verify": {"out": "list.parquet"},
    }
    subject = {} if name == "replay" else {"data": "data.toml"}
    with pytest.raises(UsageError, match="memory must be like 6G"):
        getattr(cimrobust, name)("no-model", **subject, **arguments.get(name, {}), memory="much")
