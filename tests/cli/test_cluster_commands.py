"""`rare`, `suggest` and `verify` on processes and workers of Dask: the numbers of one machine."""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import cimrobust
from cimrobust.cli.main import run
from cimrobust.cluster.executor import ChangedExecutor
from cimrobust.montecarlo.worker_opening import OpenedByName
from tests.interruptions import KillsTheFirstWorker

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="distributed is not installed"
)
Command = Callable[..., Any]


@pytest.fixture
def rare(samples: Path) -> Command:
    return lambda **options: cimrobust.rare(
        samples / "breast_cancer_mlp.onnx",
        data=samples / "breast_cancer_mlp.toml",
        below=0.9,
        limit=40,
        tolerance=0.08,
        particles=10,
        budget=200,
        workers=1,
        skip_most_probable=True,
        **options,
    )


@pytest.fixture
def verify(samples: Path, tmp_path: Path) -> Command:
    def made(**options: Any) -> tuple[dict[str, Any], Any]:
        found = cimrobust.verify(
            samples / "breast_cancer_mlp.onnx",
            data=samples / "breast_cancer_mlp.toml",
            out=tmp_path / "devices.parquet",
            limit=20,
            tolerance=0.1,
            shares=[0.2],
            workers=1,
            **options,
        )
        return found, pq.read_table(tmp_path / "devices.parquet")

    return made


@pytest.fixture
def suggest(samples: Path) -> Command:
    def made(**options: Any) -> dict[str, Any]:
        found: dict[str, Any] = cimrobust.suggest(
            samples / "breast_cancer_mlp.onnx",
            data=samples / "breast_cancer_mlp.toml",
            policy={
                "require": {
                    "kpp": {"k": 10, "confidence": 0.9, "accuracy": 0.93},
                    "certified_accuracy": 0.5,
                }
            },
            limit=40,
            tolerance=0.15,
            effort="quick",
            protect="digital",
            workers=1,
            **options,
        ).data
        return {key: value for key, value in found.items() if key != "timings"}

    return made


@pytest.mark.parametrize("name", ["rare", "verify"])
def test_a_killed_process_changes_no_number(name: str, request: pytest.FixtureRequest) -> None:
    command: Command = request.getfixturevalue(name)
    progress = KillsTheFirstWorker()
    spread = command(cluster="processes:2", progress=progress)
    assert progress.happened
    assert not multiprocessing.active_children()
    assert spread == command()


def test_suggest_spreads_chips_of_every_set_and_of_what_it_confirms(
    suggest: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, spread = OpenedByName.__init__, ChangedExecutor.map_ordered
    rules, chosen = [], []

    def note_rules(self: OpenedByName, *arguments: Any, **named: Any) -> None:
        opened(self, *arguments, **named)
        rules.append(self.profile.rules)

    def note_chosen(self: ChangedExecutor, task: Any, items: Any) -> Any:
        chosen.append(self.change.args[1])  # type: ignore[attr-defined]
        return spread(self, task, items)

    monkeypatch.setattr(OpenedByName, "__init__", note_rules)
    monkeypatch.setattr(ChangedExecutor, "map_ordered", note_chosen)
    progress = KillsTheFirstWorker()
    found = suggest(cluster="processes:2", progress=progress)
    assert progress.happened
    assert not multiprocessing.active_children()
    assert any(chosen)
    assert rules[-1]
    assert found["best"] == "digital"
    assert found == suggest()


@needs_dask
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_killed_worker_of_dask_changes_no_estimate(rare: Command) -> None:
    progress = KillsTheFirstWorker()
    assert rare(cluster="local:2", progress=progress) == rare()
    assert progress.happened


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("rare", ["--below", "0.9"]),
        ("verify", ["--out", "devices.parquet"]),
        ("suggest", ["--policy", "policy.toml"]),
    ],
)
def test_a_cluster_that_is_none_is_refused_before_anything_is_loaded(
    name: str,
    more: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.toml").write_text("[require]\nworst_found_accuracy = 0.8\n")
    arguments = [name, "none.onnx", "--data", "none.npz", *more]
    assert run([*arguments, "--cluster", "slurm"]) == 2
    assert "cluster must be processes:N" in capsys.readouterr().err
