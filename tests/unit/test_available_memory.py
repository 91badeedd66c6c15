from __future__ import annotations

import pytest
import torch

from cimrobust import available_memory as memory


def test_a_limit_is_what_the_process_may_take_in_all() -> None:
    held = memory.held_memory()
    assert held > 10**6
    with memory.memory_limit(held + 10**9):
        assert 0 < memory.available_memory() <= 1.1 * 10**9
        assert memory.planned_memory() <= 1.1 * 10**9
        with memory.memory_limit(1):
            assert memory.available_memory() == 0
    assert memory.planned_memory() < memory.available_memory()


@pytest.mark.parametrize(("each", "workers"), [(1, 8), (300, 3), (1000, 1), (5000, 1)])
def test_threads_are_as_many_as_fit_and_one_at_least(
    each: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "planned_memory", lambda: 1000)
    assert memory.fitting_workers(8, each) == workers


def test_what_threads_share_is_taken_from_what_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "planned_memory", lambda: 1000)
    assert memory.fitting_workers(8, 300, beside=350) == 2
    assert memory.fitting_workers(8, 300, beside=2000) == 1


@pytest.mark.parametrize(
    ("error", "is_about"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_errors_about_memory_are_known(error: Exception, is_about: bool) -> None:
    assert memory.is_about_memory(error) is is_about
