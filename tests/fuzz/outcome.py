"""What a command did with a hostile input: a right number, a clear refusal, or a fault of ours."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from cimrobust.cli.main import run

REFUSALS = (2, 4, 5)


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Attributes:
        word: ``number`` (compared and right), ``accepted`` (nothing to compare it with),
            ``refused``, or ``fault``.
        text: The refusal, or what is wrong.
    """

    word: str
    text: str = ""


class Fault(AssertionError):  # noqa: N818  # what is looked for
    """Something that must not happen."""


@dataclass(frozen=True)
class Ran:
    """A command that was run."""

    code: int
    out: str
    err: str

    def refusal(self, allowed: Sequence[int] = REFUSALS) -> Outcome | None:
        """Return the refusal, None where the command succeeded; raises Fault for anything else."""
        if "Traceback" in self.out + self.err:
            raise Fault(f"a traceback: {self.err[-500:]}")
        if self.code == 0:
            return None
        if self.code not in allowed:
            raise Fault(f"exit code {self.code}: {self.err[-500:]}")
        line = self.err.removesuffix("\n")
        if not line.isprintable() or len(line) < 20 or len(line) > 6000:
            raise Fault(f"not one clear line: {line[:500]!r}")
        return Outcome("refused", f"{self.code}: {line}")


def run_command(*arguments: object) -> Ran:
    """Run a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Ran(code, out.getvalue(), err.getvalue())


def session(model: bytes | Path, *, optimised: bool = False) -> Any:
    """Open plain onnxruntime with exact integer products; raises what onnxruntime raises."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(
        str(model) if isinstance(model, Path) else model,
        options,
        providers=["CPUExecutionProvider"],
    )


def outputs(
    model: bytes | Path, samples: np.ndarray, *, optimised: bool = False
) -> np.ndarray | None:
    """Return the first output of a network for all samples, run in its own batches; None where
    onnxruntime does not run it.
    """
    try:
        opened = _opened(model, optimised=optimised)
        source = opened.get_inputs()[0]
        batch = (
            source.shape[0] if source.shape and isinstance(source.shape[0], int) else len(samples)
        )
        parts = [
            opened.run(None, {source.name: samples[at : at + batch]})[0]
            for at in range(0, len(samples), batch)
        ]
        return np.concatenate(parts)
    except Exception:  # whatever onnxruntime says
        return None


def _opened(model: bytes | Path, *, optimised: bool) -> ort.InferenceSession:
    """Open a network; one whose sizes lie in external data, which onnxruntime does not look into
    for shapes, with the data inside.
    """
    try:
        return session(model, optimised=optimised)
    except Exception as err:
        if not isinstance(model, Path) or "external tensors" not in str(err):
            raise
        return session(onnx.load(model).SerializeToString(), optimised=optimised)


def require_same(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Raise Fault unless two runs of the same network agree to float32 rounding."""
    if found.shape != expected.shape:
        raise Fault(f"{what}: shape {found.shape} in place of {expected.shape}")
    scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
    # rtol 1e-4: float32 sums of a few hundred terms in another order; atol: the same for values
    # that cancel.
    if not np.allclose(found, expected, rtol=1e-4, atol=1e-5 * scale + 1e-30, equal_nan=True):
        worst = float(np.nanmax(np.abs(found.astype(np.float64) - expected)))
        raise Fault(f"{what}: outputs differ by {worst:g} where the largest is {scale:g}")


def parsed(text: str) -> Any:
    """Return the JSON that a command printed; raises Fault for anything else."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError as err:
        raise Fault(f"output is not JSON: {err}: {text[:300]!r}") from err


def _refuse(text: str) -> float:
    raise ValueError(f"{text} in JSON")


def declared_batch(model: onnx.ModelProto) -> int | None:
    """Return the batch size that a model fixes, None if it is free."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return dims[0].dim_value if dims and dims[0].dim_value > 0 else None
