"""Certificates are untrusted input; their files appear whole or not at all."""

from __future__ import annotations

import json

import pytest

from cimrobust.certificate.certificate_files import atomic_text, read_certificate
from cimrobust.errors import InputRefusedError, UsageError


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "certificate.json"),
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[" * 200_000, "JSON"),
        (b"{}", "schema_version"),
        (b"[]", "JSON object"),
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


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "report.html"
    atomic_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        atomic_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_places_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="writable"):
        atomic_text(tmp_path / "file" / "report.html", "text")
