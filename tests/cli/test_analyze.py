"""The whole job through the command line, and what a stranger can check of its files."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

import cimrobust
from cimrobust.certificate.manifest import manifest_problems
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.published_schemas import described_schema
from cimrobust.certificate.schema_files import schema_file
from cimrobust.cli.main import run


def certificate_of(folder: Path) -> dict:
    return json.loads((folder / "certificate.json").read_text())


def without_timings(value):
    """A certificate without what two runs may differ in."""
    if isinstance(value, dict):
        return {
            key: without_timings(entry)
            for key, entry in value.items()
            if key not in ("timings", "seconds")
        }
    return [without_timings(entry) for entry in value] if isinstance(value, list) else value


#: What a test leaves out that asks for the search or the drawn chips alone.
SEARCHED_ALONE = ("--skip", "certify", "--skip", "effects")


def analyze_arguments(
    samples: Path, out: Path, *more: str, sample: str = "digits_cnn"
) -> list[str]:
    model, data = (str(samples / f"{sample}.{end}") for end in ("onnx", "toml"))
    return ["analyze", model, "--data", data, "--effort", "quick", "--out", str(out), *more]


def small_arguments(samples: Path, out: Path, *more: str) -> list[str]:
    """The same for a network whose analysis takes a few seconds."""
    return analyze_arguments(samples, out, *more, sample="breast_cancer_mlp")


def test_the_worst_chip_is_a_disaster_while_the_average_is_fine(certified):
    certificate = certificate_of(certified)
    assert certificate["worst_found"]["score"] <= 0.12
    assert certificate["monte_carlo"]["mean"] > 0.95
    assert certificate["monte_carlo"]["trials"] == 300
    assert certificate["clean"]["score"] >= 0.97


def test_certificate_follows_the_published_schema(certified):
    published = json.loads(schema_file("certificate").read_text())
    assert published == described_schema(CertificateModel), (
        "write it again: python -m cimrobust.certificate.published_schemas"
    )
    jsonschema.Draft202012Validator(published).validate(certificate_of(certified))


def test_witness_replays_with_numpy_and_onnxruntime_alone(certified, samples):
    tensors = load_file(certified / "witness" / "deviations.safetensors")
    model = onnx.load(certified / "witness" / "worst_case.onnx")
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    names = {key.rsplit(".", 1)[0] for key in tensors}
    assert names == {
        layer["initializer"] for layer in certificate_of(certified)["mapping"]["layers"]
    }
    for name in names:
        nominal, lo, hi, deviation = (
            tensors[f"{name}.{part}"] for part in ("nominal", "lo", "hi", "deviation")
        )
        assert {nominal.dtype, lo.dtype, hi.dtype, deviation.dtype} == {np.dtype(np.float32)}
        assert ((lo <= deviation) & (deviation <= hi)).all()
        assert np.array_equal(stored[name], nominal + deviation)
        assert np.abs(hi).max() <= 0.03 * np.abs(nominal).max() * (1 + 1e-6)
    data = np.load(samples / "digits_test.npz")
    session = onnxruntime.InferenceSession(str(certified / "witness" / "worst_case.onnx"))
    scores = session.run(
        ["scores"], {"image": (data["x"] / np.float32(16)).astype(np.float32).reshape(-1, 1, 8, 8)}
    )[0]
    assert (scores.argmax(1) == data["y"]).mean() == certificate_of(certified)["worst_found"][
        "score"
    ]


def test_trials_hold_one_row_a_chip(certified):
    table = pq.read_table(certified / "trials.parquet")
    assert {"trial", "seed", "accuracy"} <= set(table.column_names)
    assert table.num_rows == 300
    assert np.mean(table["accuracy"]) == pytest.approx(
        certificate_of(certified)["monte_carlo"]["mean"]
    )


def test_results_do_not_depend_on_the_number_of_workers(certified, samples, tmp_path):
    assert run(small_arguments(samples, tmp_path / "one", "--workers", "1")) == 0
    assert run(small_arguments(samples, tmp_path / "four", "--workers", "4")) == 0
    assert run(analyze_arguments(samples, tmp_path / "digits", "--workers", "3")) == 0
    assert without_timings(certificate_of(tmp_path / "digits")) == without_timings(
        certificate_of(certified)
    )
    one, four = certificate_of(tmp_path / "one"), certificate_of(tmp_path / "four")
    assert json.dumps(without_timings(one)) == json.dumps(without_timings(four))
    for name in ("witness/worst_case.onnx", "witness/deviations.safetensors", "trials.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "four" / name).read_bytes()


def test_python_returns_what_the_command_line_writes(samples, tmp_path):
    name = samples / "breast_cancer_mlp"
    made = cimrobust.analyze(
        name.with_suffix(".onnx"),
        data=name.with_suffix(".toml"),
        out=tmp_path / "python",
        effort="quick",
    )
    assert run(small_arguments(samples, tmp_path / "command")) == 0
    assert without_timings(made.data) == without_timings(certificate_of(tmp_path / "command"))
    assert made.html.is_file()


def test_json_summary_is_all_that_is_printed(samples, tmp_path, capsys):
    assert run(small_arguments(samples, tmp_path, "--trials", "3", "--limit", "50", "--json")) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["worst_found"] == certificate_of(tmp_path)["worst_found"]["score"]


def test_gate_fails_on_the_worst_chip_and_says_so_in_junit(certified, samples, tmp_path, capsys):
    junit = tmp_path / "gate.xml"
    assert (
        run(
            [
                "gate",
                str(certified),
                "--policy",
                str(samples / "policies" / "strict.toml"),
                "--junit",
                str(junit),
            ]
        )
        == 1
    )
    assert "FAIL" in capsys.readouterr().out
    cases = {case.get("name"): case for case in ElementTree.parse(junit).getroot().iter("testcase")}
    assert cases["worst_found_accuracy"].find("failure") is not None
    assert cases["clean_accuracy"].find("failure") is None


def test_gate_passes_a_statistical_policy(certified, samples, capsys):
    assert (
        run(
            [
                "gate",
                str(certified),
                "--policy",
                str(samples / "policies" / "statistical.toml"),
                "--json",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["word"] == "PASS_STATISTICAL"


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ("worst_found_accuracy = 0.05", 3),
        ("certified_accuracy = 0.05", 3),
        ("certified_accuracy = 0.5", 1),
        ("kpp = { k = 0.01, accuracy = 0.5 }", 3),
        ("kpp = { k = 5, accuracy = 0.99 }", 1),
        ("clean_accuracy = 0.999", 1),
    ],
)
def test_gate_exit_codes(certified, tmp_path, policy, code):
    (tmp_path / "p.toml").write_text(f"[require]\n{policy}\n")
    assert run(["gate", str(certified), "--policy", str(tmp_path / "p.toml")]) == code


def test_replay_confirms_every_claim(certified, samples, capsys):
    model, data = str(samples / "digits_cnn.onnx"), str(samples / "digits_cnn.toml")
    assert run(["replay", str(certified), "--model", model, "--data", data, "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)
    assert {check["id"] for check in checks if check["held"] is not True} == {
        "second_search",
        "rerun",
    }  # nobody asked for them
    assert {"witness_in_box", "worst_found", "clean", "verdict", "report"} <= {
        check["id"] for check in checks
    }


@pytest.mark.parametrize("tampering", ["score", "witness", "trials", "report"])
def test_replay_catches_tampering(certified, samples, tmp_path, capsys, tampering):
    out = tmp_path / "out"
    shutil.copytree(certified, out)
    if tampering == "score":
        text = certificate_of(out)
        text["worst_found"]["score"] = 0.9
        (out / "certificate.json").write_text(json.dumps(text))
    elif tampering == "witness":
        shutil.copy(samples / "digits_cnn.onnx", out / "witness" / "worst_case.onnx")
    elif tampering == "trials":
        (out / "trials.parquet").write_bytes((out / "trials.parquet").read_bytes()[:-10])
    else:
        (out / "certificate.html").write_text("all is well")
    assert run(["replay", str(out), "--data", str(samples / "digits_cnn.toml")]) == 6
    assert "REFUTED" in capsys.readouterr().out


def test_report_is_a_function_of_the_json(certified, tmp_path):
    shutil.copy(certified / "certificate.json", tmp_path)
    assert run(["report", str(tmp_path)]) == 0
    assert (tmp_path / "certificate.html").read_bytes() == (
        certified / "certificate.html"
    ).read_bytes()


def test_inspect_lists_layers_and_devices(samples, capsys):
    assert run(["inspect", str(samples / "digits_cnn.onnx"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [layer["matrix"] for layer in summary["layers"]] == [
        "9 x 16",
        "144 x 32",
        "512 x 64",
        "64 x 10",
    ]
    assert summary["total_devices"] == 4 * (144 + 4608 + 32768 + 640)
    assert run(["inspect", str(samples / "digits_cnn.onnx")]) == 0
    assert "box radius" in capsys.readouterr().out


def test_inspect_says_of_how_few_parameters_weights_are_computed(tmp_path, capsys):
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x) => (float[N, 3] y)'
            " <float[3, 1] u = {1, 2, 3}, float[1, 3] v = {1, 0, 1}>"
            " { w = MatMul(u, v) y = MatMul(x, w) }"
        ),
        tmp_path / "m.onnx",
    )
    assert run(["inspect", str(tmp_path / "m.onnx")]) == 0
    assert "9 weights, computed from 6 parameters, in" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["digits_resnet", "breast_cancer_mlp"])
def test_other_samples(samples, tmp_path, name):
    model = str(samples / f"{name}.onnx")
    arguments = [
        "analyze",
        model,
        "--data",
        str(samples / f"{name}.toml"),
        "--effort",
        "quick",
        "--trials",
        "20",
        "--out",
        str(tmp_path),
    ]
    assert run(arguments) == 0
    certificate = certificate_of(tmp_path)
    assert certificate["worst_found"]["score"] < certificate["monte_carlo"]["min"]


def test_signatures_of_an_older_certificate_do_not_stay_in_its_folder(samples, tmp_path):
    (tmp_path / "attestation.dsse.json").write_text("{}")
    (tmp_path / "manifest.json").write_text("{}")
    model, data = str(samples / "breast_cancer_mlp.onnx"), str(samples / "breast_cancer_mlp.toml")
    assert (
        run(
            [
                "analyze",
                model,
                "--data",
                data,
                "--effort",
                "quick",
                "--trials",
                "5",
                "--limit",
                "20",
                "--out",
                str(tmp_path),
            ]
        )
        == 0
    )
    assert not (tmp_path / "attestation.dsse.json").exists()
    assert manifest_problems(tmp_path) == []


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5, 4.0])
def test_killed_runs_leave_no_certificate(samples, tmp_path, seconds):
    command = [
        sys.executable,
        "-m",
        "cimrobust",
        *analyze_arguments(samples, tmp_path / "out", "--trials", "5000"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    names = {path.name for path in (tmp_path / "out").glob("*")}
    assert not names & {"certificate.json", "certificate.html", "trials.parquet", "witness"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_resumed_run_ends_as_if_it_had_not_been_interrupted(samples, tmp_path, number):
    arguments = small_arguments(samples, tmp_path / "out", "--trials", "3000")
    process = subprocess.Popen(
        [sys.executable, "-m", "cimrobust", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoint = tmp_path / "out" / ".resume"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(
        path.stat().st_size > 2000 for path in checkpoint.glob("*")
    ):
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait() == (-number if number == signal.SIGKILL else 130)
    assert run([*arguments, "--resume"]) == 0
    assert manifest_problems(tmp_path / "out") == []
    assert run(small_arguments(samples, tmp_path / "fresh", "--trials", "3000")) == 0
    assert without_timings(certificate_of(tmp_path / "out")) == without_timings(
        certificate_of(tmp_path / "fresh")
    )


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"--data": "no.toml"}, 2, "no.toml"),
        ({"--device": "no.toml"}, 2, "no.toml"),
        ({"--policy": "no.toml"}, 2, "no.toml"),
    ],
)
def test_wrong_files_write_nothing(samples, tmp_path, capsys, change, code, text):
    arguments = analyze_arguments(samples, tmp_path / "out")
    for option, value in change.items():
        arguments += [option, value]
    assert run(arguments) == code
    errors = capsys.readouterr().err
    assert text in errors
    assert errors.count("\n") == 1
    assert not list((tmp_path / "out").glob("certificate.*"))


def _policy(folder: Path, text: str) -> str:
    path = folder / "policy.toml"
    path.write_text(text)
    return str(path)


def test_trials_stop_as_soon_as_the_policy_is_decided(samples, tmp_path):
    policy = _policy(tmp_path, "[require]\nkpp = { k = 1, confidence = 0.95, accuracy = 0.9 }\n")
    out = tmp_path / "out"
    more = ("--limit", "60", "--policy", policy, "--stop-early", *SEARCHED_ALONE)
    assert run(analyze_arguments(samples, out, *more)) == 0
    drawn = certificate_of(out)["monte_carlo"]
    assert (drawn["trials"], drawn["stopping"]["max_trials"], drawn["stopping"]["stopped"]) == (
        349,
        3490,
        True,
    )
    assert [target["outcome"] for target in drawn["stopping"]["targets"]] == ["met"]
    assert drawn["kpp"][0]["rank"] == 1
    assert certificate_of(out)["verdict"]["word"] == "PASS_STATISTICAL"
    assert "--stop-early" in certificate_of(out)["reproduce"]["command"]
    assert run(["replay", str(out)]) == 0
    assert run(["gate", str(out), "--policy", policy]) == 0


@pytest.mark.parametrize(
    ("policy", "more", "message"),
    [
        (None, [], "needs a policy"),
        ("[require]\nclean_accuracy = 0.9\n", [], "kpp"),
        ("[require]\nkpp = { k = 1, accuracy = 0.9 }\n", ["--trials", "348"], "at least 349"),
    ],
)
def test_stopping_early_needs_something_to_decide(samples, tmp_path, capsys, policy, more, message):
    given = [] if policy is None else ["--policy", _policy(tmp_path, policy)]
    assert run(analyze_arguments(samples, tmp_path / "out", "--stop-early", *given, *more)) == 2
    assert message in capsys.readouterr().err


def test_rare_failures_are_in_the_certificate_where_they_were_asked_for(
    samples, tmp_path, certified
):
    out = tmp_path / "out"
    more = ["--trials", "20", "--limit", "60", "--rare-below", "0.95", "--rare-budget", "400"]
    assert run(analyze_arguments(samples, out, *more, *SEARCHED_ALONE)) == 0
    rare = certificate_of(out)["monte_carlo"]["rare"]
    assert (rare["wrong_decisions"], rare["decisions"], len(rare["repeats"])) == (4, 60, 2)
    assert (rare["reached"], rare["probability"], rare["low"]) == (False, None, 0.0)
    assert rare["statement"] in (out / "certificate.html").read_text()
    assert "--rare-below 0.95 --rare-budget 400" in certificate_of(out)["reproduce"]["command"]
    assert certificate_of(certified)["monte_carlo"]["rare_reason"] == "not asked for (--rare-below)"


def test_rare_prints_an_estimate(samples, capsys):
    command = [
        "rare",
        str(samples / "digits_cnn.onnx"),
        "--data",
        str(samples / "digits_cnn.toml"),
        "--limit",
        "100",
        "--particles",
        "20",
        "--skip-most-probable",
    ]
    assert run([*command, "--below", "0.99", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["low"] <= found["probability"] <= found["high"]
    assert found["wrong_decisions"] == 2
    assert run([*command, "--below", "0.99", "--workers", "3", "--repeats", "1"]) == 0
    assert f"{found['repeats'][0]['probability']:.3g}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--below", "0"], "more than 0"),
        (["--below", "2"], "at most 1"),
        (["--below", "0.9", "--budget", "100"], "first level"),
    ],
)
def test_rare_says_what_is_wrong(samples, capsys, more, message):
    assert (
        run(
            [
                "rare",
                str(samples / "digits_cnn.onnx"),
                "--data",
                str(samples / "digits_cnn.toml"),
                *more,
            ]
        )
        == 2
    )
    assert message in capsys.readouterr().err


def test_summaries_for_pull_requests_say_what_the_certificate_says(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "policy.toml").write_text("[require]\nworst_found_accuracy = 1.0\n")
    collected = tmp_path / "step.md"
    collected.write_text("of another step\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(collected))
    own, policy = str(tmp_path / "new" / "summary.md"), str(tmp_path / "policy.toml")
    more = ("--trials", "5", "--policy", policy, "--summary", own, "--progress", "lines")
    assert run(small_arguments(samples, tmp_path / "out", *more, *SEARCHED_ALONE)) == 0
    text = Path(own).read_text()
    assert collected.read_text() == f"of another step\n{text}\n"
    assert "summary appended to GITHUB_STEP_SUMMARY" in capsys.readouterr().err
    assert text.startswith("## cimrobust analyze: FAIL for `breast_cancer_mlp.onnx`")
    worst = certificate_of(tmp_path / "out")["worst_found"]["score"]
    assert f"| worst chip found | {worst:.4f} |" in text
    assert "| **REFUTED** | `worst_found_accuracy`" in text
    digest = certificate_of(tmp_path / "out")["policy_sha256"]
    assert f"`policy` sha256 `{digest}`" in text


def test_loading_is_said_to_have_ended_with_its_last_step(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    more = ("--trials", "5", "--progress", "lines", *SEARCHED_ALONE)
    assert run(small_arguments(samples, tmp_path / "out", *more)) == 0
    said = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
    assert "Loading and checking: ended, 2 of 2" in said


def test_a_summary_without_a_policy_names_none(samples: Path, tmp_path: Path) -> None:
    own = tmp_path / "summary.md"
    more = ("--trials", "5", "--summary", str(own), *SEARCHED_ALONE)
    assert run(small_arguments(samples, tmp_path / "out", *more)) == 0
    assert "## cimrobust analyze: INCONCLUSIVE" in own.read_text()
    assert "policy" not in own.read_text().partition("### Replay")[2]


def test_a_summary_that_cannot_be_written_is_refused_before_the_work(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "summary.md")
    assert run(small_arguments(samples, tmp_path / "out", "--summary", place)) == 2
    assert "summary must be a file that can be written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
