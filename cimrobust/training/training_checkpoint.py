"""Checkpoints of a training: an interrupted run goes on to identical results."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cimrobust.errors import InputRefusedError
from cimrobust.files import write_whole
from cimrobust.input_file import FileKind, read_input, refusing_what_fails
from cimrobust.training.parameters import Parameters
from cimrobust.training.state import Copies, EpochRow, State

_MAX_BYTES = 16 * 2**30


def write_checkpoint(path: Path, digest: str, state: State) -> None:
    """Write everything that changes."""
    held: dict[str, Any] = {
        "digest": digest,
        "parameters": state.parameters.state(),
        "averaged": None if state.averaged is state.parameters else state.averaged.state(),
        "best": state.best.state(),
        "optimiser": state.optimiser.state_dict(),
        "memory": state.memory,
        "rows": [asdict(row) for row in state.rows],
        "best_epoch": state.best_epoch,
        "skipped": state.skipped,
        "mean": state.mean,
        "best_sigma": state.best_sigma,
        "copies": None if state.copies is None else _of_copies(state.copies),
    }
    buffer = io.BytesIO()
    torch.save(held, buffer)
    write_whole(path, buffer.getvalue())


def read_checkpoint(path: Path, digest: str, state: State) -> int | None:
    """Take over a checkpoint of the same job; return its epoch, None where there is none.

    Raises:
        InputRefusedError: It is not a checkpoint, or one of another job.
    """
    if not path.exists():
        return None
    hint = "leave out --resume"
    content = read_input(path, FileKind("checkpoint", _MAX_BYTES, hint=hint))
    with refusing_what_fails("checkpoint must be one that a training wrote", path, hint=hint):
        held = torch.load(io.BytesIO(content), weights_only=True)
        if held.get("digest") != digest:
            raise InputRefusedError(
                "checkpoint must be of the same model, data, device, method and settings, got"
                f" another ({path}); {hint}"
            )
        return _take_over(held, state)


def _take_over(held: dict[str, Any], state: State) -> int:
    state.parameters.load(_parameters(held["parameters"]))
    if held["averaged"] is not None:
        state.averaged.load(_parameters(held["averaged"]))
    state.best.load(_parameters(held["best"]))
    state.optimiser.load_state_dict(held["optimiser"])
    state.memory.update(held["memory"])
    state.rows[:] = [EpochRow(**row) for row in held["rows"]]
    state.best_epoch, state.skipped = held["best_epoch"], held["skipped"]
    state.mean, state.best_sigma = held["mean"], held["best_sigma"]
    if state.copies is not None:
        _take_over_copies(held["copies"], state.copies)
    return state.rows[-1].epoch


def _of_copies(copies: Copies) -> dict[str, Any]:
    """Return what is not the same for all copies between two epochs."""
    return {
        "interval": (copies.low, copies.high, copies.sigma),
        "optimisers": [copy.optimiser.state_dict() for copy in copies.states[1:]],
    }


def _take_over_copies(held: dict[str, Any], copies: Copies) -> None:
    copies.low, copies.high, copies.sigma = held["interval"]
    first, *others = copies.states
    for copy, optimiser in zip(others, held["optimisers"], strict=True):
        copy.parameters.load(first.parameters)
        copy.optimiser.load_state_dict(optimiser)


def _parameters(held: dict[str, Any]) -> Parameters:
    return Parameters(held["weights"], held["digital"], held["buffers"])
