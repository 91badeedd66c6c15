"""What an interrupted analysis has finished, found again by the same command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cimrobust import __version__
from cimrobust.engine.machine import this_machine
from cimrobust.finished_parts import FinishedParts, digest_of
from cimrobust.montecarlo.trials import fingerprint
from cimrobust.pipeline.arguments import resume_folder

if TYPE_CHECKING:
    from cimrobust.engine.subject import Subject
    from cimrobust.run import Run

#: Folder below that of the certificate; it is gone when the certificate is written.
RESUME = ".resume"


def open_parts(subject: Subject, run: Run, *, out: Path, resume: bool) -> FinishedParts:
    """Return where parts of an analysis are kept; empty unless it goes on from an interrupted one.

    Args:
        subject: What is examined.
        run: How to compute.
        out: Folder of the certificate.
        resume: Whether parts of an interrupted run are taken over.

    Raises:
        UsageError: The folder cannot be made.
    """
    return FinishedParts(resume_folder(out, RESUME, resume=resume), run_digest(subject, run))


def run_digest(subject: Subject, run: Run) -> str:
    """Return a digest of what every part of a run depends on.

    Network, samples, labels, devices and their intervals, seed, effort, and all that computes:
    versions, and what the processor can do.
    """
    machine = this_machine()
    box = subject.box
    return digest_of(
        [
            fingerprint(subject.runtime, subject.placement, run.seed),
            [[name, box.nominal[name], box.lo[name], box.hi[name]] for name in box.names],
            [repr(profile.to_dict()) for profile in subject.placement.profiles],
            [run.effort, run.passes, run.attack_samples, run.device_type],
            [__version__, np.__version__, str(torch.__version__)],
            [machine.architecture, machine.instruction_sets, machine.onnxruntime],
            [machine.onnxruntime_build, machine.operating_system],
        ]
    )
