"""Where torch computes: the processor, or an accelerator that the user asked for by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cimrobust.errors import UsageError
from cimrobust.run import DEVICE_TYPES


def open_device(device_type: str) -> torch.device:
    """Return the torch device of a type.

    Args:
        device_type: ``cpu`` or ``cuda``.

    Raises:
        UsageError: There is no such type, or this installation cannot compute on it.
    """
    if device_type not in DEVICE_TYPES:
        raise UsageError(
            f"device type must be one of {', '.join(DEVICE_TYPES)}, got '{device_type}' (option"
            " --device-type); choose one of them"
        )
    lacking = why_no_cuda() if device_type == "cuda" else ""
    if lacking:
        raise UsageError(
            f"device type must be usable here, got 'cuda', and {lacking} (option --device-type);"
            " use --device-type cpu"
        )
    return torch.device(device_type)


def why_no_cuda() -> str:
    """Return why torch cannot compute on a GPU here; nothing where it can."""
    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return "torch was built without CUDA"
    return f"torch, built for CUDA {torch.version.cuda}, finds no usable GPU or driver"


@contextmanager
def repeatable_convolutions(device: torch.device) -> Iterator[None]:
    """Let CUDA convolve in full float32, and with kernels that add up the same way every time.

    The processor always does.
    """
    if device.type == "cpu":
        yield
        return
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield
