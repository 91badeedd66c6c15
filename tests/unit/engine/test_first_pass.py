"""Files whose work no shape bounds are tried in a process with limits before they are run here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

from cimrobust.engine import first_pass
from cimrobust.engine.first_pass import check_first_pass
from cimrobust.engine.original_file import run_original
from cimrobust.engine.sessions import open_session, run_session
from cimrobust.engine.watchdog import current_time_limit, time_limit
from cimrobust.errors import CimrobustError, ModelNotCoveredError
from cimrobust.onnx_io.load_network import load_network

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
ENDLESS = """g (float[N, 4] x) => (float[N, 4] y) <float big = {1e30}> {
  m = ReduceSum <keepdims = 0> (x) c0 = Less(m, big)
  y = Loop("", c0, x) <body = b (int64 i, bool c, float[N, 4] s) => (bool c2, float[N, 4] s2) {
    s2 = Neg(s) q = ReduceSum <keepdims = 0> (s2) c2 = Less(q, big) }> }"""
LARGE = """g (float[N, 4] x) => (float[N, 4] y) <float f = {1e8}, int64[1] four = {4}, float[1, 4] one = {1, 1, 1, 1}, int64[1] ax = {0}> {
  a = Abs(x) r = ReduceMax <keepdims = 0> (a) p = Mul(r, f) k = Cast <to = 7> (p) k1 = Unsqueeze(k, ax)
  s = Concat <axis = 0> (k1, four) e = Expand(one, s) m = ReduceMax <axes = [0]> (e) y = Add(x, m) }"""  # noqa: E501
FEED = {"x": np.full((2, 4), 3, np.float32)}

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a model given as ONNX text."""

    def write(text: str) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(onnx.parser.parse_model(HEAD + text).SerializeToString())
        return path

    return write


def test_a_loop_without_end_is_refused_by_name(write: Write) -> None:
    network = load_network(write(ENDLESS))
    with (
        time_limit(1),
        pytest.raises(
            ModelNotCoveredError,
            match=r"limits of time and memory, got one .*within 1 seconds .*node 'y' \(Loop\)",
        ),
    ):
        run_original(network, FEED)


def test_a_tensor_that_needs_all_memory_is_refused_by_name(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_network(write(LARGE))
    monkeypatch.setattr(first_pass, "_bytes_allowed", lambda: 2**29)
    with pytest.raises(
        ModelNotCoveredError, match=r"more memory than there is .*node 'e' \(Expand\)"
    ):
        run_original(network, FEED)


def test_the_same_tensor_of_a_modest_size_runs(write: Write) -> None:
    network = load_network(write(LARGE))
    small = {"x": np.full((2, 4), 1e-6, np.float32)}
    np.testing.assert_allclose(run_original(network, small), small["x"] + 1)


def test_a_run_that_fails_is_left_to_the_real_one(write: Write) -> None:
    path = write("g (float[N, 4] x, int64[2] s) => (float[a, b] y) { y = Expand(x, s) }")
    check_first_pass(path, {**FEED, "s": np.asarray([3, 5])}, "y", nodes=["y"])


def test_a_process_that_cannot_start_is_no_fault_of_the_model(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_pass, "_CODE", "raise SystemExit(3)")
    with pytest.raises(
        CimrobustError, match="the process that tries the first run must work, got exit status 3"
    ):
        check_first_pass(write(LARGE), FEED, "y", nodes=["e"])


def test_a_system_without_proc_runs_it_without_a_limit_of_memory(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = first_pass._CODE.replace("/proc/", "/no-such-folder/")
    monkeypatch.setattr(first_pass, "_CODE", f"import sys\nsys.platform = 'darwin'\n{elsewhere}")
    check_first_pass(write(LARGE), {"x": np.full((2, 4), 1e-6, np.float32)}, "y", nodes=["e"])


def test_a_process_that_crashes_names_the_signal(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_pass, "_CODE", "import os; os.kill(os.getpid(), 11)")
    with pytest.raises(ModelNotCoveredError, match="by signal 11"):
        check_first_pass(write(LARGE), FEED, "y", nodes=["e"])


def test_later_runs_have_the_limit_too(write: Write) -> None:
    session = open_session(write(ENDLESS))
    with (
        time_limit(0.5),
        pytest.raises(
            ModelNotCoveredError,
            match=r"model must run on one batch within 0\.5 seconds, got none of its outputs",
        ),
    ):
        run_session(session, "y", FEED)
    np.testing.assert_array_equal(
        run_session(session, "y", {"x": np.full((1, 4), 1e31, np.float32)}),
        np.full((1, 4), np.float32(1e31)),
    )


def test_the_limit_is_set_back() -> None:
    before = current_time_limit()
    with time_limit(5):
        assert current_time_limit() == 5
    assert current_time_limit() == before
