"""The drawn chips of one run and what each scored."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cimrobust.array_shapes import Float64, Int64
from cimrobust.counts import MAX_TRIALS
from cimrobust.errors import InputRefusedError
from cimrobust.montecarlo.quantile import FailureRate, Kpp, failure_rate_of_scores, kpp_of_scores
from cimrobust.parquet_file import column, numbers, read_parquet


@dataclass(frozen=True)
class TrialTable:
    """One row a trial.

    Attributes:
        trial: Index of the trial; with the seed it regenerates the chip, int64 [num_trials].
        value: Score, float64 [num_trials].
        count: Right decisions, int64 [num_trials]; None for regression.
        num_samples: Decisions scored in every trial.
        seed: Seed of the run.
        metric: Name of the metric.
        higher_is_better: Direction of the metric.
        max_trials: Trials allowed to a run that could stop as soon as its policy was decided; None:
            the number was fixed in advance.
        note: What a reader has to know of how chips were scored; empty: nothing. Certificates state
            it, files of trials do not.
    """

    trial: Int64[np.ndarray, "trials"]
    value: Float64[np.ndarray, "trials"]
    count: Int64[np.ndarray, "trials"] | None
    num_samples: int
    seed: int
    metric: str
    higher_is_better: bool
    max_trials: int | None = None
    note: str = ""

    @property
    def is_sequential(self) -> bool:
        """Whether the scores decided how many trials there are.

        Bounds for a fixed number do not hold then.
        """
        return self.max_trials is not None

    @property
    def num_trials(self) -> int:
        """Number of trials."""
        return int(self.trial.size)

    @property
    def mean(self) -> float:
        """Mean score; infinite where an error is."""
        with np.errstate(over="ignore"):
            return float(self.value.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the score over chips (n - 1).

        0 for a single trial; no number, or infinite, where errors are infinite or nearly so.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            return float(self.value.std(ddof=1)) if self.num_trials > 1 else 0.0

    @property
    def worst_trial(self) -> int:
        """Index of the worst trial, the first of equals; `program_chip` regenerates its weights."""
        position = np.argmin(self.value) if self.higher_is_better else np.argmax(self.value)
        return int(self.trial[position])

    @property
    def worst_value(self) -> float:
        """Score of the worst trial."""
        return float(self.value.min() if self.higher_is_better else self.value.max())


def kpp(table: TrialTable, k: float, confidence: float) -> Kpp:
    """Return the k-th percentile performance of the trials; see `kpp_of_scores`."""
    return kpp_of_scores(
        table.value,
        k=k,
        confidence=confidence,
        higher_is_better=table.higher_is_better,
        is_sequential=table.is_sequential,
    )


def failure_rate(
    table: TrialTable, requirement: float, confidence: float, *, aim: float = 0.01
) -> FailureRate:
    """Return how often a chip misses the requirement, with bounds; see `failure_rate_of_scores`.

    Args:
        table: The trials.
        requirement: Score a chip has to reach.
        confidence: Confidence of each bound alone.
        aim: Rate that is allowed, where the run could stop early; must not be chosen by looking at
            the trials.
    """
    return failure_rate_of_scores(
        table.value,
        requirement=requirement,
        confidence=confidence,
        higher_is_better=table.higher_is_better,
        sequential_aim=aim if table.is_sequential else None,
    )


def to_parquet(table: TrialTable, path: Path) -> None:
    """Write the table, whole or not at all.

    Columns trial, seed, the metric's name, correct, samples.

    ``correct`` is null for regression. The same table gives the same bytes.
    """
    size = table.num_trials
    columns = {
        "trial": column(table.trial),
        "seed": column(np.full(size, table.seed)),
        table.metric: column(table.value),
        "correct": (pa.nulls(size, pa.int64()) if table.count is None else column(table.count)),
        "samples": column(np.full(size, table.num_samples)),
    }
    metadata = {
        "metric": table.metric,
        "higher_is_better": "true" if table.higher_is_better else "false",
    }
    if table.max_trials is not None:
        metadata["max_trials"] = str(table.max_trials)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(pa.table(columns, metadata=metadata), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def from_parquet(path: Path) -> TrialTable:
    """Read a table that `to_parquet` wrote.

    Raises:
        InputRefusedError: The file is missing, corrupt, or no table of trials.
    """
    try:
        read = read_parquet(path, what="trial table", max_rows=MAX_TRIALS)
        described = {
            key.decode(): value.decode() for key, value in (read.schema.metadata or {}).items()
        }
        metric = described["metric"]
        columns = {
            name: read.column(name).combine_chunks()
            for name in ("trial", "seed", metric, "correct", "samples")
        }
        seeds, samples = set(columns["seed"].to_pylist()), set(columns["samples"].to_pylist())
        if len(seeds) != 1 or len(samples) != 1:
            raise ValueError(f"{len(seeds)} seeds and {len(samples)} sample counts")
        if any(columns[name].null_count for name in ("trial", "seed", metric, "samples")):
            raise ValueError("rows without a trial, seed, score or number of samples")
        correct = columns["correct"]
        return TrialTable(
            trial=numbers(columns["trial"]).astype(np.int64),
            value=numbers(columns[metric]).astype(np.float64),
            count=(None if correct.null_count else numbers(correct).astype(np.int64)),
            num_samples=int(samples.pop()),
            seed=int(seeds.pop()),
            metric=metric,
            higher_is_better=described["higher_is_better"] == "true",
            max_trials=int(described["max_trials"]) if "max_trials" in described else None,
        )
    except (
        KeyError,
        ValueError,
        TypeError,
        OverflowError,
        AttributeError,
        pa.ArrowException,
    ) as err:
        detail = " ".join(str(err).split())[:200]
        raise InputRefusedError(
            f"trial table must be a Parquet file of trials, got: {detail} ({path}); make it again"
        ) from err
