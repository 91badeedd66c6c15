"""`cimrobust report`: the page again, what changed since an earlier certificate, and PDF/A."""

from __future__ import annotations

import gc
import re
import shutil
import zlib
from pathlib import Path

import pytest

from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.cli.main import run


@pytest.fixture(scope="module")
def certified(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "out"
    model, data = (str(samples / f"breast_cancer_mlp.{end}") for end in ("onnx", "toml"))
    options = [
        "--effort",
        "quick",
        "--trials",
        "30",
        "--limit",
        "60",
        "--policy",
        str(samples / "policies" / "tumours.toml"),
    ]
    assert run(["analyze", model, "--data", data, "--out", str(out), *options]) == 0
    return out


def test_the_page_is_the_same_again(certified, tmp_path):
    folder = shutil.copytree(certified, tmp_path / "again")
    before = (folder / "certificate.html").read_bytes()
    assert run(["report", str(folder)]) == 0
    assert (folder / "certificate.html").read_bytes() == before


def test_an_earlier_certificate_gives_a_page_of_its_own(certified, tmp_path, capsys):
    folder = shutil.copytree(certified, tmp_path / "now")
    page = (folder / "certificate.html").read_bytes()
    assert run(["report", str(folder), "--previous", str(certified)]) == 0
    assert (folder / "certificate.html").read_bytes() == page
    assert 'id="change"' in (folder / "change.html").read_text()
    assert "change.html" in capsys.readouterr().out
    assert run(["replay", str(folder)]) == 0


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # weasyprint leaves its colour profile open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_pdf_is_archivable_and_the_same_again(certified, tmp_path):
    pytest.importorskip("weasyprint")
    first, second = tmp_path / "first.pdf", tmp_path / "second.pdf"
    for path in (first, second):
        assert (
            run(
                [
                    "report",
                    str(shutil.copytree(certified, tmp_path / path.stem)),
                    "--pdf",
                    str(path),
                ]
            )
            == 0
        )
    gc.collect()
    content = first.read_bytes()
    assert content == second.read_bytes()
    assert any(b"pdfaid:part" in text for text in _streams(content)), (
        "PDF/A says of itself that it is"
    )


def _streams(content: bytes) -> list[bytes]:
    """Return the streams of a PDF, unpacked where they are packed."""
    found = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, flags=re.DOTALL)
    return [
        zlib.decompressobj().decompress(text) if text[:1] == b"\x78" else text for text in found
    ]


def test_the_digest_in_the_page_is_that_of_the_file(certified):
    digest = read_certificate(certified).file_sha256
    assert digest is not None
    assert digest[:12] in (certified / "certificate.html").read_text()


def test_a_result_may_be_named_by_its_file(certified, tmp_path, capsys):
    copy = tmp_path / "out"
    shutil.copytree(certified, copy)
    assert run(["report", str(copy / "certificate.json")]) == 0
    assert capsys.readouterr().out.strip() == str(copy / "certificate.html")
    assert run(["bom", str(copy / "certificate.json"), "--out", str(tmp_path / "bom.json")]) == 0
