"""JUnit XML of the gate, against the elements and attributes that Jenkins accepts
(jenkinsci/xunit-plugin, junit-10.xsd).
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import cimrobust
from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.errors import EvidenceRefutedError

#: Attributes and children of an element; those with a star are required.
_ELEMENTS = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {
            "name*",
            "tests*",
            "failures*",
            "errors*",
            "group",
            "time",
            "skipped",
            "timestamp",
            "hostname",
            "id",
            "package",
            "file",
            "log",
            "url",
        },
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), {"property"}),
    "property": ({"name*", "value*"}, set()),
    "testcase": (
        {"name*", "time", "classname", "group"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ({"type", "message"}, set()),
    "error": ({"type", "message"}, set()),
    "system-out": (set(), set()),
}
_TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")


def _check(element: ElementTree.Element) -> None:
    attributes, children = _ELEMENTS[element.tag]
    assert set(element.attrib) <= {name.rstrip("*") for name in attributes}, element.tag
    assert {name.rstrip("*") for name in attributes if name.endswith("*")} <= set(element.attrib), (
        element.tag
    )
    if element.tag in ("testsuite", "testsuites"):
        assert _TIME.fullmatch(element.get("time", ""))
    for child in element:
        assert child.tag in children, (element.tag, child.tag)
        _check(child)


@pytest.mark.parametrize(
    "required",
    ["clean_accuracy = 0.5", "worst_found_accuracy = 0.99", "kpp = { k = 0.1, accuracy = 0.9 }"],
)
def test_every_verdict_is_what_jenkins_reads(
    small_certificate: Path, tmp_path: Path, required: str
) -> None:
    (tmp_path / "p.toml").write_text(f"[require]\n{required}\n")
    cimrobust.gate(small_certificate, policy=tmp_path / "p.toml", junit=tmp_path / "j.xml")
    root = ElementTree.parse(tmp_path / "j.xml").getroot()
    _check(root)
    stated = {row.get("name"): row.get("value") for row in root.iter("property")}
    assert {
        "tool",
        "verdict",
        "policy.sha256",
        "model.breast_cancer_mlp.onnx.sha256",
        "data.breast_cancer_test.npz.sha256",
    } <= stated.keys()
    assert all(case.find("system-out") is not None for case in root.iter("testcase"))
    name = required.partition(" ")[0].replace("kpp", "kpp_0.1")
    asked = "0.9" if name == "kpp_0.1" else required.rpartition(" ")[2]
    assert stated[f"requirement.{name}.threshold"] == asked
    assert "score.worst_found" in stated
    assert "witness/worst_case.onnx" in root.find(".//testcase[@name='verdict']/system-out").text
    assert str(tmp_path) not in (tmp_path / "j.xml").read_text()


def test_a_pass_has_its_numbers_and_times_are_those_of_the_run(
    small_certificate: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.toml").write_text("[require]\nworst_found_accuracy = 0.5\n")
    cimrobust.gate(small_certificate, policy=tmp_path / "p.toml", junit=tmp_path / "j.xml")
    root = ElementTree.parse(tmp_path / "j.xml").getroot()
    case = root.find(".//testcase[@name='worst_found_accuracy']")
    assert [child.tag for child in case] == ["system-out"]
    record = read_certificate(small_certificate)
    assert f"found: {record.worst_found.score}" in case.find("system-out").text
    assert float(case.get("time")) == round(record.timings.stages["search"], 3)
    for element in (root, root.find("testsuite")):
        assert float(element.get("time")) == round(record.timings.total_seconds, 3)


def test_refuted_evidence_too(small_certificate: Path, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("[require]\nclean_accuracy = 0.5\n")
    with pytest.raises(EvidenceRefutedError):
        cimrobust.gate(
            small_certificate,
            policy=tmp_path / "p.toml",
            model=samples / "digits_resnet.onnx",
            junit=tmp_path / "j.xml",
        )
    root = ElementTree.parse(tmp_path / "j.xml").getroot()
    _check(root)
    assert root.find(".//error") is not None
