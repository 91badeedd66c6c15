"""Certificates are untrusted input; their files appear whole or not at all."""

from __future__ import annotations

import json

import pytest

from cimrobust.certificate.certificate_files import atomic_text, check_own, read_certificate
from cimrobust.certificate.models import CertificateModel
from cimrobust.errors import InputRefusedError, SelfCheckError, UsageError


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "certificate.json"),
        (b"", "certificate must be JSON, got: Expecting value"),
        (b"\xff\xfe", "JSON"),
        (b"[" * 200_000, "JSON"),
        (b"{}", r"certificate must state its version, got: schema_version must be like '1.5', got"),
        (b"[]", "certificate must be a JSON object, got list"),
        (b'{"clean": {"score": NaN}}', "NaN"),
        (json.dumps({"schema_version": "9.0.0"}).encode(), "later one"),
        (json.dumps({"schema_version": "1.999"}).encode(), "later one"),
        (json.dumps({"schema_version": 15}).encode(), "must be like"),
        (json.dumps({"schema_version": "1.6", "tool": 3}).encode(), r"at \$\.tool"),
    ],
)
def test_certificates_that_are_none(tmp_path, content, text):
    if content is not None:
        (tmp_path / "certificate.json").write_bytes(content)
    with pytest.raises(InputRefusedError, match=text):
        read_certificate(tmp_path)


def test_a_result_of_our_own_that_breaks_its_schema_is_an_internal_error():
    made = CertificateModel.model_construct(schema_version="1.6")
    with pytest.raises(
        SelfCheckError, match=r"certificate must follow its schema, got .*report this"
    ):
        check_own(made)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "report.html"
    atomic_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        atomic_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_places_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="output must be writable, got File exists"):
        atomic_text(tmp_path / "file" / "report.html", "text")
