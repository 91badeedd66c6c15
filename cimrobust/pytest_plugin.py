"""Certificates in pytest: a network must withstand its devices, or a test fails.

pytest loads this module by itself (entry point ``pytest11``), so nothing heavy is imported before a
test asks for a certificate.

    @pytest.mark.cimrobust(
        model="model.onnx", data="data.toml", effort="quick", require={"clean_accuracy": 0.9}
    )
    def test_the_network_withstands_its_devices(cimrobust_gate):
        cimrobust_gate()
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import cimrobust
from cimrobust.errors import CimrobustError

if TYPE_CHECKING:
    from cimrobust.certificate.gate_evidence import GateResult
    from cimrobust.certificate.result import Certificate

_FOLDER = "cimrobust-certificates"
_MARKER = (
    "cimrobust(model, data, policy=None, require=None, **settings): the certificate that the"
    " fixtures cimrobust_certificate and cimrobust_gate are about; settings as for"
    " cimrobust.analyze, policy a file, require the [require] table of one"
)


@dataclass
class Certificates:
    """The certificates of one test session, each made once.

    Attributes:
        folder: Where they are written.
        root: Folder that relative paths are of.
        made: Certificates by the digest of what they are of.
    """

    folder: Path
    root: Path
    made: dict[str, Certificate] = field(default_factory=dict)

    def of(self, model: str | Path, *, data: str | Path, **settings: Any) -> Certificate:
        """Return the certificate of a network, made now or by an earlier test.

        Args:
            model: ONNX file, relative to the root folder of pytest.
            data: Evaluation data, as for `cimrobust.analyze`.
            settings: What else `cimrobust.analyze` takes, but the folder.
        """
        network, samples = self.root / model, self.root / data
        asked = json.dumps([str(network), str(samples), settings], sort_keys=True, default=str)
        key = hashlib.sha256(asked.encode()).hexdigest()[:12]
        if key not in self.made:
            out = self.folder / f"{network.stem}-{key}"
            self.made[key] = cimrobust.analyze(network, data=samples, out=out, **settings)
        return self.made[key]


_CERTIFICATES = pytest.StashKey[Certificates]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add where certificates are written."""
    parser.addini(
        "cimrobust_dir", f"folder for certificates, below the root folder ({_FOLDER})", default=""
    )
    group = parser.getgroup("cimrobust")
    group.addoption("--cimrobust-dir", metavar="DIR", help="Folder for certificates.")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and begin with no certificate."""
    config.addinivalue_line("markers", _MARKER)
    named = config.getoption("cimrobust_dir") or config.getini("cimrobust_dir") or _FOLDER
    # Workers of pytest-xdist share no certificates, and must not write into one folder.
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    config.stash[_CERTIFICATES] = Certificates(config.rootpath / named / worker, config.rootpath)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say where the certificates are."""
    made = config.stash[_CERTIFICATES].made.values()
    if made:
        terminalreporter.section("cimrobust certificates")
    for certificate in made:
        terminalreporter.write_line(
            f"{certificate.directory}: worst {certificate.metric.name} found"
            f" {certificate.worst_found.score:.4f}"
        )


@pytest.fixture(scope="session")
def cimrobust_certificates(pytestconfig: pytest.Config) -> Certificates:
    """Return the certificates of this session: ``cimrobust_certificates.of(model, data=...)``."""
    return pytestconfig.stash[_CERTIFICATES]


@pytest.fixture
def cimrobust_certificate(
    request: pytest.FixtureRequest, cimrobust_certificates: Certificates
) -> Certificate:
    """Return the certificate that the marker of the test describes."""
    asked = _marked(request)
    settings = {name: value for name, value in asked.items() if name not in ("policy", "require")}
    try:
        certificate = cimrobust_certificates.of(**settings)
    except CimrobustError as err:
        raise pytest.fail.Exception(f"no certificate: {err}", pytrace=False) from None
    except TypeError as err:
        text = f"marker cimrobust must have model, data and settings: {err}"
        raise pytest.fail.Exception(text, pytrace=False) from None
    request.node.user_properties.append(("cimrobust.certificate", str(certificate.directory)))
    return certificate


@pytest.fixture
def cimrobust_gate(
    request: pytest.FixtureRequest,
    cimrobust_certificate: Certificate,
    cimrobust_certificates: Certificates,
) -> Callable[..., GateResult]:
    """Return a function that holds the certificate against the marker's policy or requirements.

    It takes others in their place, and what else `assert_meets` takes.
    """
    asked = _marked(request)
    marked = {name: asked.get(name) for name in ("policy", "require")}
    if marked["policy"] is not None:
        marked["policy"] = cimrobust_certificates.root / marked["policy"]

    def gate(**given: Any) -> GateResult:
        __tracebackhide__ = True
        if not {"policy", "require"} & given.keys():
            given |= marked
        return assert_meets(cimrobust_certificate, **given)

    return gate


def assert_meets(
    certificate: Certificate,
    *,
    policy: str | Path | None = None,
    require: Mapping[str, Any] | None = None,
    **more: Any,
) -> GateResult:
    """Fail the test unless a certificate passes a policy; what is undecided passes nothing.

    Args:
        certificate: The certificate.
        policy: Policy file.
        require: The table ``[require]`` of a policy, in place of a file.
        more: What else `cimrobust.gate` takes.

    Returns:
        What the gate decided.

    Raises:
        AssertionError: It does not pass; names each requirement that does not hold, the file of the
            worst chip found and how to replay it.
        CimrobustError: The policy is wrong, or the evidence does not hold.
    """
    __tracebackhide__ = True
    asked = policy if require is None else {"require": dict(require)}
    if asked is None or None not in (policy, require):
        raise TypeError("a certificate must be held against one of policy=FILE and require={...}")
    result = cimrobust.gate(certificate, policy=asked, **more)
    if result.exit_code != 0:
        raise AssertionError(_failure(certificate, result))
    return result


def _failure(certificate: Certificate, result: GateResult) -> str:
    lines = [f"cimrobust: {certificate.model.name} is {result.word}. {result.verdict.sentence}"]
    lines += [
        f"  {row.status} {row.id}: {row.text}. {row.sentence}"
        for row in result.requirements
        if row.status != "met"
    ]
    lines.append(f"  witness: {certificate.witness}")
    lines.append(f"  report: {certificate.html}")
    lines.append(f"  replay: {shlex.join(['cimrobust', 'replay', str(certificate.directory)])}")
    return "\n".join(lines)


def _marked(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return what the markers of a test say; the nearest one decides."""
    marks = list(request.node.iter_markers("cimrobust"))
    if not marks:
        pytest.fail(
            "a test that uses cimrobust_certificate must have the marker"
            " @pytest.mark.cimrobust(model=..., data=...)",
            pytrace=False,
        )
    asked: dict[str, Any] = {}
    for mark in reversed(marks):
        asked |= dict(zip(("model", "data"), mark.args, strict=False)) | mark.kwargs
    return asked
