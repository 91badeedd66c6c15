"""How data say that they are read, against how a certificate says that they were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.data.dataset import DataSet, DataSource, StoredOutput
from cimrobust.data.decision import Decision, LabelReading
from cimrobust.review.reading_check import as_certified, reading_check
from tests.unit.review.test_consistency import Plain, plain

DECISION = Decision(output="benign_score", read="threshold", threshold=0.0)
DATA = DataSet(
    {"measurements": np.zeros((4, 30), np.float32)},
    {},
    np.zeros(4, np.int64),
    DECISION,
    DataSource("test", {}, {}, 4),
)


def made(data: Plain | None = None, **labels: Any) -> CertificateModel:
    values = plain()
    values["data"] |= data or {}
    values["data"]["labels"] |= labels
    return CertificateModel.model_validate(values)


def said(certificate: CertificateModel, dataset: DataSet) -> str:
    check = reading_check(certificate, dataset)
    assert check.held is check.detail.startswith("read = ")
    return "" if check.held else check.detail


def with_decision(**changes: Any) -> DataSet:
    return replace(DATA, decision=replace(DECISION, **changes))


def with_reading(**changes: Any) -> DataSet:
    return replace(DATA, reading=LabelReading(**changes))


def test_data_that_are_read_as_they_were_hold() -> None:
    assert said(made(), DATA) == ""


@pytest.mark.parametrize(
    ("dataset", "wrong"),
    [
        (with_decision(read="argmax"), "read 'argmax', certified 'threshold'"),
        (with_decision(metric="rmse"), "metric 'rmse', certified 'accuracy'"),
        (with_decision(threshold=0.5), "value 0.5, certified 0.0"),
        (with_decision(k=3), "k 3, certified 1"),
        (with_decision(output="other"), "output 'other', certified 'benign_score'"),
        (with_decision(axis=1), "axis 1, certified None"),
        (with_reading(first=1), "first 1, certified None"),
        (with_reading(ignore=(255,)), "ignore [255], certified []"),
        (with_reading(classes=("a", "b")), "classes ['a', 'b'], certified None"),
    ],
)
def test_data_that_are_read_otherwise_are_named(dataset: DataSet, wrong: str) -> None:
    assert said(made(), dataset) == wrong


def test_what_data_leave_open_the_certificate_decides() -> None:
    assert said(made(), with_decision(output=None, axis=-1)) == ""
    assert said(made(classes=["a", "b"]), DATA) == ""


def test_labels_of_the_data_were_counted() -> None:
    own = made({"label_source": "self"})
    assert said(own, DATA) == "labels 'given', certified 'self'"
    assert said(own, replace(DATA, labels=None)) == ""


def test_data_are_read_as_certified() -> None:
    certificate = made(classes=["benign", "malignant"], first=1, ignore=[9])
    read = as_certified(certificate, with_decision(read="argmax", output=None))
    assert read.decision == replace(DECISION, axis=None)
    reading = read.reading
    assert (reading.classes, reading.first, reading.ignore) == (("benign", "malignant"), 1, (9,))


def test_several_thresholds_are_one_of_each_number() -> None:
    values = plain()
    values["data"]["decision"]["threshold"] = [0.0, 0.5]
    certificate = CertificateModel.model_validate(values)
    assert as_certified(certificate, DATA).decision.threshold == (0.0, 0.5)


@pytest.mark.parametrize(("output", "place"), [("benign_score", 0), ("second", 1), ("unknown", 0)])
def test_of_outputs_without_a_name_the_place_of_the_one_that_is_read_tells(
    output: str, place: int
) -> None:
    values = plain()
    values["model"]["outputs"].append({**values["model"]["outputs"][0], "name": "second"})
    values["data"]["decision"]["output"] = output
    stored = {index: StoredOutput("", np.full((4, 1), index, np.float32)) for index in range(2)}
    dataset = replace(DATA, labels=None, stored=stored)
    read = as_certified(CertificateModel.model_validate(values), dataset)
    assert read.labels is stored[place].array
