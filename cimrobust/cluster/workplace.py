"""What a process computes with, as far as scores depend on it."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import torch

from cimrobust import __version__
from cimrobust.engine.machine import this_machine


def workplace() -> dict[str, str]:
    """Return versions and instruction sets of this process, by what messages call them."""
    machine = this_machine()
    sets = machine.instruction_sets
    return {
        "versions": (
            f"cimrobust {__version__}, numpy {np.__version__}, onnxruntime {ort.__version__},"
            f" torch {torch.__version__}"
        ),
        "machine": f"{machine.architecture} {'unknown' if sets is None else ' '.join(sets)}",
    }
