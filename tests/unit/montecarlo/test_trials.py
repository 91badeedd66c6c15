from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.engine.kernel import program_chip
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo import trials
from cimrobust.montecarlo.anytime import Target
from cimrobust.montecarlo.stopping import StopRule
from cimrobust.montecarlo.trial_table import TrialTable
from cimrobust.montecarlo.trials import fingerprint
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.progress import NullProgress, Progress
from cimrobust.run import Run

DENSE = """
<ir_version: 8, opset_import: ["" : 13]>
agraph (float[1, 12] x) => (float[1, 4] y) <float[12, 16] w1, float[16, 4] w2> { a = MatMul(x, w1) h = Relu(a) y = MatMul(h, w2) }
"""  # noqa: E501


class Counter(NullProgress):
    """Counts what is reported, and interrupts after a number of trials."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.total, self.done, self.notes, self._left = 0, 0, "", interrupt_after

    def start(self, name: str, total: int) -> None:
        self.total = total

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        self.notes += note
        if self._left is not None:
            self._left -= steps
            if self._left < 0:
                raise KeyboardInterrupt


def _open(folder: Path, tolerance: float = 0.2) -> tuple[Runtime, Placement]:
    generator = np.random.default_rng(0)
    model = parser.parse_model(DENSE)
    del model.graph.initializer[:]
    for name, shape in (("w1", (12, 16)), ("w2", (16, 4))):
        model.graph.initializer.append(
            numpy_helper.from_array(generator.normal(size=shape).astype(np.float32), name)
        )
    onnx.save(model, folder / "model.onnx")
    network = load_network(folder / "model.onnx")
    scan = scan_layers(network)
    placement = place(scan, with_tolerance(load_profile("rram-write-verify-3pct"), tolerance))
    x = generator.normal(size=(100, 12)).astype(np.float32)
    data = DataSet({"x": x}, {}, None, Decision(), DataSource("test", {}, {}, 100))
    return open_network(network, scan, placement, data), placement


def run_trials(
    runtime: Runtime,
    placement: Placement,
    *,
    seed: int,
    workers: int = 1,
    progress: Progress,
    **more: Any,
) -> TrialTable:
    """Draw chips as `trials.run_trials` does."""
    run = Run(seed, workers, progress=progress)
    return trials.run_trials(Subject(runtime, placement), run, **more)


@pytest.fixture
def opened(tmp_path: Path) -> tuple[Runtime, Placement]:
    return _open(tmp_path)


def test_trials_are_the_scores_of_the_drawn_chips(opened: tuple[Runtime, Placement]) -> None:
    runtime, placement = opened
    progress = Counter()
    table = run_trials(runtime, placement, num_trials=7, seed=3, progress=progress)
    expected = [runtime.score(program_chip(placement, seed=3, trial=trial)) for trial in range(7)]
    assert table.count is not None
    assert table.count.tolist() == [score.count for score in expected]
    assert table.value.tolist() == [score.value for score in expected]
    assert (table.num_samples, table.seed, table.metric, table.higher_is_better) == (
        100,
        3,
        "accuracy",
        True,
    )
    assert len(set(table.count.tolist())) > 1
    assert (progress.total, progress.done) == (7, 7)


def test_workers_change_nothing(opened: tuple[Runtime, Placement]) -> None:
    tables = [
        run_trials(*opened, num_trials=25, seed=1, workers=workers, progress=NullProgress())
        for workers in (1, 2, 5)
    ]
    assert tables[0].value.tolist() == tables[1].value.tolist() == tables[2].value.tolist()


def test_more_trials_extend_a_run_and_another_seed_is_another_run(
    opened: tuple[Runtime, Placement],
) -> None:
    few, many, other = (
        run_trials(*opened, num_trials=n, seed=s, progress=NullProgress())
        for n, s in ((10, 1), (20, 1), (20, 2))
    )
    assert many.value.tolist()[:10] == few.value.tolist()
    assert many.value.tolist() != other.value.tolist()


def test_zero_tolerance_gives_the_quantised_score_every_time(tmp_path: Path) -> None:
    runtime, placement = _open(tmp_path, tolerance=0.0)
    table = run_trials(runtime, placement, num_trials=3, seed=1, progress=NullProgress())
    assert set(table.value.tolist()) == {runtime.quantised.value}


@pytest.mark.parametrize("workers", [1, 3])
def test_interrupted_run_resumes_to_the_same_table(
    opened: tuple[Runtime, Placement], tmp_path: Path, workers: int
) -> None:
    path = tmp_path / "trials.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run_trials(
            *opened,
            num_trials=30,
            seed=1,
            workers=workers,
            checkpoint=path,
            progress=Counter(interrupt_after=11),
        )
    progress = Counter()
    resumed = run_trials(
        *opened, num_trials=30, seed=1, workers=workers, checkpoint=path, progress=progress
    )
    assert "12 trials were taken from the checkpoint" in progress.notes
    assert progress.done == 30
    assert (
        resumed.value.tolist()
        == run_trials(*opened, num_trials=30, seed=1, progress=NullProgress()).value.tolist()
    )


def test_finished_trials_are_not_run_again(
    opened: tuple[Runtime, Placement], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trials.jsonl"
    first = run_trials(*opened, num_trials=5, seed=1, checkpoint=path, progress=NullProgress())
    monkeypatch.setattr(
        trials.ScoreTrials,
        "on",
        lambda *_: lambda trial: pytest.fail(f"trial {trial} was run again"),
    )
    again = run_trials(*opened, num_trials=4, seed=1, checkpoint=path, progress=NullProgress())
    assert again.value.tolist() == first.value.tolist()[:4]


def _rule(score: float) -> StopRule:
    return StopRule((Target(k=20.0, confidence=0.9, score=score),), higher_is_better=True)


@pytest.mark.parametrize(("score", "outcome"), [(0.3, "met"), (0.99, "refuted")])
def test_a_run_that_may_stop_early_is_the_beginning_of_the_full_one(
    opened: tuple[Runtime, Placement], score: float, outcome: str
) -> None:
    full = run_trials(*opened, num_trials=60, seed=1, progress=NullProgress())
    short = [
        run_trials(
            *opened, num_trials=60, seed=1, workers=w, stop=_rule(score), progress=NullProgress()
        )
        for w in (1, 3)
    ]
    assert (
        short[0].value.tolist()
        == short[1].value.tolist()
        == full.value.tolist()[: short[0].num_trials]
    )
    assert short[0].num_trials < 60
    assert (short[0].max_trials, full.max_trials) == (60, None)


def test_an_undecided_run_ends_with_the_most_trials(opened: tuple[Runtime, Placement]) -> None:
    table = run_trials(*opened, num_trials=5, seed=1, stop=_rule(0.3), progress=NullProgress())
    assert (table.num_trials, table.max_trials, table.is_sequential) == (5, 5, True)


def test_a_run_that_may_stop_early_resumes_to_the_same_end(
    opened: tuple[Runtime, Placement], tmp_path: Path
) -> None:
    whole = run_trials(*opened, num_trials=60, seed=1, stop=_rule(0.3), progress=NullProgress())
    for done in (4, 60):
        path = tmp_path / f"{done}.jsonl"
        run_trials(*opened, num_trials=done, seed=1, checkpoint=path, progress=NullProgress())
        again = run_trials(
            *opened,
            num_trials=60,
            seed=1,
            checkpoint=path,
            stop=_rule(0.3),
            progress=NullProgress(),
        )
        assert again.value.tolist() == whole.value.tolist()


def test_checkpoint_of_another_seed_is_not_used(
    opened: tuple[Runtime, Placement], tmp_path: Path
) -> None:
    path = tmp_path / "trials.jsonl"
    run_trials(*opened, num_trials=5, seed=1, checkpoint=path, progress=NullProgress())
    progress = Counter()
    table = run_trials(*opened, num_trials=5, seed=2, checkpoint=path, progress=progress)
    assert "of another run" in progress.notes
    assert (
        table.value.tolist()
        == run_trials(*opened, num_trials=5, seed=2, progress=NullProgress()).value.tolist()
    )


def test_fingerprint_tells_devices_and_seeds_apart(
    opened: tuple[Runtime, Placement], tmp_path: Path
) -> None:
    runtime, placement = opened
    known = fingerprint(runtime, placement, 1)
    assert known == fingerprint(runtime, placement, 1)
    assert (
        len(
            {
                known,
                fingerprint(runtime, placement, 2),
                fingerprint(*_open(tmp_path, tolerance=0.1), 1),
            }
        )
        == 3
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_trials": 0}, "number of trials"),
        ({"workers": 0}, "number of workers"),
        ({"seed": 2**63}, "seed must fit 64 bits"),
    ],
)
def test_senseless_settings_are_refused(
    opened: tuple[Runtime, Placement], settings: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run_trials(*opened, **{"num_trials": 1, "seed": 1, "progress": NullProgress(), **settings})  # type: ignore[arg-type]


def test_memory_is_flat_in_the_number_of_trials(opened: tuple[Runtime, Placement]) -> None:
    def resident() -> float:
        return (
            int(Path("/proc/self/statm").read_text().split()[1])
            * os.sysconf("SC_PAGE_SIZE")
            / 2**20
        )

    run_trials(*opened, num_trials=50, seed=1, workers=2, progress=NullProgress())
    before = resident()
    run_trials(*opened, num_trials=300, seed=1, workers=2, progress=NullProgress())
    assert resident() - before < 10


def test_killed_process_resumes_to_the_same_table(tmp_path: Path) -> None:
    """A real kill -9 in the middle of the trials."""
    runtime, placement = _open(tmp_path)
    path = tmp_path / "trials.jsonl"
    script = tmp_path / "run.py"
    script.write_text(
        "import importlib.util, pathlib\nspec = importlib.util.spec_from_file_location('helpers',"
        f" {str(Path(__file__))!r})\nhelpers = importlib.util.module_from_spec(spec);"
        " spec.loader.exec_module(helpers)\nfolder ="
        f" pathlib.Path({str(tmp_path)!r})\nhelpers.run_trials(*helpers._open(folder),"
        " num_trials=100000, seed=1, workers=2, checkpoint=folder / 'trials.jsonl',"
        " progress=helpers.NullProgress())\n"
    )
    process = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (
        not path.exists() or path.read_bytes().count(b"\n") < 20
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = [json.loads(line)["trial"] for line in path.read_bytes().split(b"\n")[1:-1]]
    assert len(done) >= 19
    total = len(done) + 5
    resumed = run_trials(
        runtime, placement, num_trials=total, seed=1, checkpoint=path, progress=NullProgress()
    )
    assert (
        resumed.value.tolist()
        == run_trials(
            runtime, placement, num_trials=total, seed=1, progress=NullProgress()
        ).value.tolist()
    )
