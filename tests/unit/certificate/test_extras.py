"""A library that is not installed costs a sentence with the command that installs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cimrobust.certificate.extras import needing
from cimrobust.errors import UsageError
from cimrobust.report.archive import pdf_of


@pytest.mark.parametrize("extra", ["sign", "sign-sigstore", "bom"])
def test_the_command_is_named(extra):
    with (
        pytest.raises(
            UsageError, match=rf"got no absent_library; pip install 'cimrobust\[{extra}\]'"
        ),
        needing(extra, "signatures"),
    ):
        import absent_library  # type: ignore[import-not-found]  # noqa: F401, PLC0415


def test_a_library_of_the_system_is_named(monkeypatch):
    class Without:
        def find_spec(self, name, path=None, target=None):
            if name == "weasyprint":
                raise OSError("cannot load library 'libpango-1.0-0'\nmore")

    monkeypatch.delitem(sys.modules, "weasyprint", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Without(), *sys.meta_path])
    with pytest.raises(UsageError, match=r"a PDF must have Pango, got none \(cannot load .*0'\)"):
        pdf_of("")


def test_nothing_but_signing_needs_them():
    """Gate and replay work where no extra is installed."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['securesystemslib', 'in_toto_attestation',"
        " 'sigstore', 'cyclonedx', 'cryptography']));import cimrobust; [getattr(cimrobust, name)"
        " for name in cimrobust.__all__]; import cimrobust.review.gating;from cimrobust.cli.main"
        " import run; sys.exit(run(['sign', '.', '--key', 'k.pem']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'cimrobust[sign]'" in done.stderr
