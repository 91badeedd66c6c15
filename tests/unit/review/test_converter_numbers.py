"""Converters that a certificate states otherwise than its layers and bits allow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cimrobust
from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.models import CertificateModel
from cimrobust.review.converter_numbers import converters_check


@pytest.fixture(scope="module")
def made(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> CertificateModel:
    """A genuine certificate of a network behind converters."""
    out = tmp_path_factory.mktemp("converted") / "out"
    cimrobust.analyze(
        samples / "breast_cancer_mlp.onnx",
        data=samples / "breast_cancer_mlp.toml",
        out=out,
        device="isaac-like-8bit",
        effort="quick",
        trials=2,
        passes=10,
        limit=20,
        workers=1,
    )
    return read_certificate(out)


def _held(made: CertificateModel, forge: Callable[[dict[str, Any]], None]) -> bool | None:
    values = made.model_dump(mode="json")
    forge(values["converters"])
    (check,) = converters_check(CertificateModel.model_validate(values))
    return check.held


def test_the_genuine_converters_hold(made: CertificateModel) -> None:
    assert _held(made, lambda _: None) is True


def test_a_certificate_without_converters_has_no_check_of_them(made: CertificateModel) -> None:
    assert list(converters_check(made.model_copy(update={"converters": None}))) == []


@pytest.mark.parametrize(
    "forge",
    [
        lambda stated: stated["arrays"].pop(),
        lambda stated: stated["arrays"].append(dict(stated["arrays"][0])),
        lambda stated: stated["arrays"][0].update(product="/net/another/Gemm/B"),
        lambda stated: stated["arrays"][0].update(rows=stated["arrays"][0]["rows"] - 1),
        lambda stated: stated["arrays"][0].update(level_high=2**20),
        lambda stated: stated["arrays"][0].update(zero_level=-1),
        lambda stated: stated["arrays"][0].update(code_high=2**20),
        lambda stated: stated["arrays"][0].update(code_low=None, code_high=None),
        lambda stated: stated["arrays"][0].update(conversions_per_vector=1),
        lambda stated: stated["arrays"][0].update(input_low=1e9),
    ],
    ids=[
        "left_out",
        "twice",
        "of_no_layer",
        "other_matrix",
        "more_levels_than_bits",
        "zero_outside",
        "more_codes_than_bits",
        "without_codes",
        "fewer_conversions",
        "empty_range",
    ],
)
def test_other_converters_are_refuted(
    made: CertificateModel, forge: Callable[[dict[str, Any]], None]
) -> None:
    assert _held(made, forge) is False
