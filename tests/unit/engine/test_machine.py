"""The machine of a run, and what its replay elsewhere says."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.engine import machine
from cimrobust.review.machine_check import machine_check
from tests.unit.certificate.partial import partial

X86 = (
    "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu avx2 avx512f avx512_vnni\n\nprocessor\t:"
    " 1\nmodel name\t: Another\nflags\t\t: fpu\n"
)
ARM = "processor\t: 0\nCPU part\t: 0xd40\nFeatures\t: fp asimd asimddp i8mm\n"


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def write(text: str | None) -> machine.Machine:
        path = tmp_path / "cpuinfo"
        if text is not None:
            path.write_text(text)
        monkeypatch.setattr(machine, "_CPUINFO", path)
        machine.this_machine.cache_clear()
        return machine.this_machine()

    yield write
    machine.this_machine.cache_clear()


def test_the_instruction_sets_that_matter_are_read(cpuinfo) -> None:
    found = cpuinfo(X86)
    assert (found.processor, found.instruction_sets) == (
        "A CPU",
        ("avx2", "avx512f", "avx512_vnni"),
    )
    assert found.onnxruntime == onnxruntime.__version__
    assert cpuinfo(ARM).instruction_sets == ("asimd", "asimddp", "i8mm")


def test_a_system_that_does_not_say_has_unknown_sets(cpuinfo) -> None:
    assert cpuinfo(None).instruction_sets is None


def certificate(**fields):
    return partial(CertificateModel, fields)


def test_replay_says_what_may_differ_on_another_machine(cpuinfo) -> None:
    cpuinfo(X86)
    made = {
        "processor": "A CPU",
        "architecture": machine.this_machine().architecture,
        "instruction_sets": ["avx2", "avx512f", "avx512_vnni"],
    }
    made |= {
        "onnxruntime": onnxruntime.__version__,
        "onnxruntime_build": machine.this_machine().onnxruntime_build,
    }
    made |= {"operating_system": machine.this_machine().operating_system}
    assert machine_check(certificate(machine=made)).held is True
    other = machine_check(certificate(machine={**made, "instruction_sets": ["avx2"]}))
    assert other.held is None
    assert "instruction sets avx2, here avx2 avx512f avx512_vnni" in other.detail
    assert "sums of integer products" in other.detail


def test_replay_of_a_certificate_without_a_machine_says_so() -> None:
    made = certificate(machine=None, machine_reason="made before schema 1.5")
    assert machine_check(made).held is False  # a certificate of today states it
    made.note_file("1.4.0", "0" * 64)
    check = machine_check(made)
    assert check.held is None
    assert "made before schema 1.5" in check.detail
