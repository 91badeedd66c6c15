"""The gate as Markdown: all that a reviewer needs, and no markup out of files of others."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

import cimrobust
from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.gate_evidence import EvidenceProblem
from cimrobust.certificate.gate_outcome import GateOutcome
from cimrobust.certificate.markdown_text import code, code_block, escaped
from cimrobust.certificate.pull_request_summary import append_summary, summary_markdown
from cimrobust.cli.main import run
from cimrobust.errors import EvidenceRefutedError, UsageError

HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=y> ![i](https://e.vil/x) [l](http://e.vil)"
    " | cell ` tick `` two *b* _i_ ~~s~~ # h www.evil.com https://evil.com a@evil.com &lt; \\| $x$"
)
STRICT = "[require]\nclean_accuracy = 0.5\nworst_found_accuracy = 0.99\n"


def rendered(markdown: str) -> str:
    """Return HTML as GitHub makes it: with tables and raw HTML, before any cleaning."""
    return (
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)
    )


def gated(certified: Path, folder: Path, policy: str, **more: Any) -> str:
    (folder / "p.toml").write_text(policy)
    out = folder / "g.md"
    try:
        cimrobust.gate(certified, policy=folder / "p.toml", summary=out, **more)
    except EvidenceRefutedError:
        assert out.exists()
    return out.read_text()


@pytest.mark.parametrize("made", [escaped(HOSTILE), code(HOSTILE)], ids=["text", "code"])
def test_hostile_text_shows_as_it_is_and_makes_no_markup(made: str) -> None:
    html = rendered(f"| a | b |\n|---|---|\n| {made} | last |\n")
    inside = html.partition("<tbody>")[2].partition("<td>")[2].partition("</td>")[0]
    inside = inside.removeprefix("<code>").removesuffix("</code>")
    assert "<" not in inside
    assert html.count("<td>") == 2
    shown = inside.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"')
    assert shown.replace("&amp;", "&").replace("\u200b", "") == HOSTILE


@pytest.mark.parametrize("text", ["a\n\n# b", "a\r| b |", "x\x1b[31m"])
def test_text_stays_on_its_line(text: str) -> None:
    assert len(rendered(escaped(text)).strip().splitlines()) == 1
    assert "<h1>" not in rendered(escaped(text))


def test_a_code_block_holds_any_text() -> None:
    html = rendered(code_block("a ``` b\n````\n<b>", "sh"))
    assert html == '<pre><code class="language-sh">a ``` b\n````\n&lt;b&gt;\n</code></pre>\n'


def test_verdict_numbers_requirements_and_replay_are_there(failing: Path, tmp_path: Path) -> None:
    text = gated(failing, tmp_path, STRICT)
    record = read_certificate(failing)
    assert text.startswith("## cimrobust gate: FAIL for `breast_cancer_mlp.onnx`\n")
    assert f"| worst chip found | {record.worst_found.score:.4f} | quick search |" in text
    refuted, met = text.index("**REFUTED**"), text.index("| met |")
    assert refuted < met
    given = ["--model", record.model.name, "--data", record.data.description]
    command = shlex.join(["cimrobust", "replay", str(failing), *given])
    assert f"```sh\n{command}\n```" in text
    assert str(record.file_sha256) in text
    assert record.worst_found.witness["witness/worst_case.onnx"] in text
    html = rendered(text)
    assert html.count("<table>") == 2
    assert html.count("<h2>") == 1


def test_what_is_wrong_with_the_evidence_is_told(failing: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged"
    shutil.copytree(failing, forged)
    (forged / "witness" / "worst_case.onnx").unlink()
    text = gated(forged, tmp_path, STRICT)
    assert text.startswith("## cimrobust gate: EVIDENCE\\_REFUTED")
    assert "worst\\_case.onnx" in text


def test_names_in_a_policy_make_no_markup(failing: Path, tmp_path: Path) -> None:
    policy = f"[[require]]\nid = {json.dumps(HOSTILE[:190])}\ntext = {json.dumps(HOSTILE)}\n"
    html = rendered(gated(failing, tmp_path, policy + "worst_found_accuracy = 0.99\n"))
    for mark in ("<script", "<img", "<a ", "<s>", "<em>"):
        assert mark not in html
    assert html.count("<table>") == 2


def test_a_condition_that_does_not_hold_is_not_called_refuted(
    failing: Path, tmp_path: Path
) -> None:
    text = gated(failing, tmp_path, STRICT + "[conditions]\nleast_samples = 9999\n")
    assert "| **not met** | `condition: least_samples`" in text


def test_a_summary_has_a_limit(failing: Path) -> None:
    problems = tuple(EvidenceProblem(f"claim {i}", "x" * 10_000) for i in range(3000))
    outcome = GateOutcome(read_certificate(failing), failing, None, problems)
    text = summary_markdown(outcome)
    assert len(text.encode()) < 2**20
    assert "And 2800 more" in text


def test_steps_share_one_summary(
    failing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    step, policy = tmp_path / "step.md", tmp_path / "p.toml"
    step.write_text("# Before\n")
    policy.write_text(STRICT)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    assert run(["gate", str(failing), "--policy", str(policy)]) == 1
    said = capsys.readouterr()
    assert said.err.count("GITHUB_STEP_SUMMARY") == 1
    assert "summary" not in said.out
    text = step.read_text()
    assert text.startswith("# Before\n## cimrobust gate: FAIL")
    assert text.count("## cimrobust gate") == 1
    assert run(["gate", str(failing), "--policy", str(policy)]) == 1
    assert step.read_text().count("## cimrobust gate") == 2


@pytest.mark.parametrize("named", ["missing/step.md", "."])
def test_a_shared_summary_that_cannot_be_written_keeps_the_verdict(
    failing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, named: str
) -> None:
    (tmp_path / "p.toml").write_text(STRICT)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / named))
    assert run(["gate", str(failing), "--policy", str(tmp_path / "p.toml")]) == 1
    assert "warning: GITHUB_STEP_SUMMARY is not writable" in capsys.readouterr().err


def test_a_shared_summary_says_what_is_in_the_way(tmp_path: Path) -> None:
    outcome: Any = None  # the place is looked at first
    with pytest.raises(UsageError, match="summary must be writable, got Is a directory"):
        append_summary(outcome, tmp_path)


def test_a_summary_that_was_asked_for_and_cannot_be_written_is_an_error(
    failing: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.toml").write_text(STRICT)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="output must be writable, got File exists"):
        cimrobust.gate(failing, policy=tmp_path / "p.toml", summary=tmp_path / "file" / "g.md")
