"""What opening a network takes at its peak, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import onnx
import pytest
from onnx import numpy_helper


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_the_peak_of_opening_and_a_chip_stays_below_what_was_asked_for(tmp_path):
    """A chain of nine products of 2048 x 2048 weights, 151 MB, in a process of its own."""
    names = [f"w{index}" for index in range(9)]
    steps = [f"h{i + 1} = MatMul(h{i}, {name}) " for i, name in enumerate(names)]
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 2048] h0) => (float[N, 2048] h9) {'
        + "".join(steps)
        + "}"
    )
    model, rng = onnx.parser.parse_model(text), np.random.default_rng(0)
    for name in names:
        values = rng.standard_normal((2048, 2048), dtype=np.float32) / 45
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(model, tmp_path / "m.onnx")
    np.savez(
        tmp_path / "d.npz",
        x=rng.standard_normal((4, 2048), dtype=np.float32),
        y=np.arange(4),
    )
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from cimrobust.available_memory import held_memory, memory_limit
        from cimrobust.data.load_dataset import load_data
        from cimrobust.engine.opening_memory import opening_sizes
        from cimrobust.pipeline.opened_subject import open_examined
        from cimrobust.pipeline.inspection import inspect_model

        inspection = inspect_model(sys.argv[1], device="rram-write-verify-3pct")
        data = load_data(Path(sys.argv[2]), inputs=inspection.network.inputs)
        before = held_memory()
        needed = opening_sizes(inspection.network, inspection.scan).opening()
        assert not inspection.is_placed
        # 8 MiB for what is loaded between here and the question.
        limit = before + needed + 2**23
        with memory_limit(limit):
            runtime = open_examined(inspection, data, calibration=None, workers=1)
        assert "GB may be taken" in str(runtime.checks.arithmetic.reason)
        with runtime.plain.open(runtime.plain.draw(inspection.placement, seed=0, trial=0)) as chip:
            chip.run(runtime.dataset.inputs)
        status = Path("/proc/self/status").read_text().splitlines()
        peak = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        print(before, limit, peak)
    """)
    command = [sys.executable, "-c", code, str(tmp_path / "m.onnx"), str(tmp_path / "d.npz")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, limit, peak = map(int, done.stdout.split())
    weights = 9 * 4 * 2048**2
    assert peak <= limit
    # Below the 39 bytes a weight that opening once took, the network itself included, and the 20
    # with two more copies.
    assert 2 * weights < peak - before < 3.5 * weights
