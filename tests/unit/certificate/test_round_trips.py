"""Result files and tables come back as they were written."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cimrobust.certificate.certificate_files import canonical_json
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models.result_file import ResultFile
from cimrobust.certificate.models.retrained import Retraining
from cimrobust.certificate.models.swept import SweepModel
from cimrobust.certificate.read_record import read_result
from cimrobust.montecarlo.trial_table import TrialTable, from_parquet, to_parquet

ROOT = Path(__file__).parents[3]
MODELS: dict[str, type[ResultFile]] = {
    "certificate": CertificateModel,
    "sweep": SweepModel,
    "retrain": Retraining,
}
FILES = [
    *sorted((ROOT / "tests" / "golden" / "results").glob("*.json")),
    *sorted((ROOT / "reports").glob("*/certificate.json")),
]


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name} {path.name}" for path in FILES])
def test_results_survive_being_written_and_read(path: Path) -> None:
    model = MODELS[path.name.partition("-")[0].removesuffix(".json")]
    made = read_result(path, model, hint="look")
    text = canonical_json(made)
    again = model.model_validate(json.loads(text))
    assert again.model_dump() == made.model_dump()
    assert canonical_json(again) == text


_VALUES = st.lists(st.floats(allow_nan=False, width=64), min_size=1, max_size=20)
_TABLES = st.fixed_dictionaries(
    {
        "value": _VALUES,
        "seed": st.integers(0, 2**63 - 1),
        "num_samples": st.integers(1, 10**6),
        "metric": st.sampled_from(["accuracy", "rmse", "max_error"]),
        "higher_is_better": st.booleans(),
        "max_trials": st.none() | st.integers(1, 10**7),
        "is_counted": st.booleans(),
    }
)


@given(_TABLES)
@settings(max_examples=60, deadline=None)
def test_tables_of_trials_survive_being_written_and_read(drawn: dict[str, Any]) -> None:
    value = np.array(drawn.pop("value"), np.float64)
    count = np.arange(value.size) if drawn.pop("is_counted") else None
    table = TrialTable(np.arange(value.size), value, count, **drawn)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trials.parquet"
        to_parquet(table, path)
        read, first = from_parquet(path), path.read_bytes()
        to_parquet(read, path)
        assert path.read_bytes() == first
    for name in ("trial", "value", "count"):
        one, other = getattr(read, name), getattr(table, name)
        assert (one is None) is (other is None)
        # Bit by bit: infinities and the sign of zero are kept.
        assert one is None or one.tobytes() == other.tobytes()
    for name in drawn:
        assert getattr(read, name) == getattr(table, name)
