"""The certified bound through the command line."""

from __future__ import annotations

import json

import pyarrow.parquet as pq

from cimrobust.cli.main import run


def analyze(samples, out, *more):
    arguments = [
        str(samples / "breast_cancer_mlp.onnx"),
        "--data",
        str(samples / "breast_cancer_mlp.toml"),
    ]
    assert (
        run(
            [
                "analyze",
                *arguments,
                "--effort",
                "quick",
                "--trials",
                "20",
                "--limit",
                "60",
                "--out",
                str(out),
                *more,
            ]
        )
        == 0
    )
    return json.loads((out / "certificate.json").read_text())


def test_a_certified_requirement_can_pass_a_network(samples, tmp_path, capsys):
    (tmp_path / "policy.toml").write_text("[require]\ncertified_accuracy = 0.8\n")
    certificate = analyze(samples, tmp_path / "out", "--policy", str(tmp_path / "policy.toml"))
    assert certificate["verdict"]["word"] == "PASS_CERTIFIED"
    assert 0.8 <= certificate["certified"]["score"] <= certificate["worst_found"]["score"]
    assert certificate["certified"]["operators"] == {"Gemm": 3, "Relu": 2}
    curve = [point["correct"] for point in certificate["certified"]["curve"]]
    assert curve == sorted(curve, reverse=True)
    assert "certified_unbroken" in {check["id"] for check in certificate["checks"]}
    page = (tmp_path / "out" / "certificate.html").read_text()
    assert "samples are decided right by all of them" in page
    assert "largest certified tolerance" in page


def test_every_sample_says_what_is_certified_of_it(samples, tmp_path, capsys):
    out = tmp_path / "out"
    certificate = analyze(samples, out)
    table = pq.read_table(out / "certified.parquet").to_pydict()
    proven = certificate["certified"]
    assert table["sample"] == list(range(60))
    assert sum(value is True for value in table["certified"]) == proven["correct"]
    largest = [value for value in table["largest_tolerance_fraction"] if value is not None]
    found = proven["largest_tolerance"]
    assert len(largest) == found["samples"] == proven["curve_samples"]
    assert (
        sum(value >= 0.03 for value in largest)
        == proven["curve"][-1]["correct"]
        == sum(table["certified"][: len(largest)])
    )
    for row in found["held"]:
        assert sum(value >= row["tolerance_fraction"] for value in largest) >= row["share"] * len(
            largest
        )
    assert sum(found["histogram"]["counts"]) == len(largest) - found["uncertified"]
    interval = next(
        row for row in certificate["evaluation_set"]["intervals"] if row["name"] == "certified"
    )
    assert interval["low"] < proven["score"] < interval["high"] == 1.0
    capsys.readouterr()
    assert run(["replay", str(out), "--json"]) == 0
    held = {check["id"]: check["held"] for check in json.loads(capsys.readouterr().out)}
    assert all(held[name] for name in ("certified_samples", "largest_tolerance", "evaluation_set"))
    pq.write_table(pq.read_table(out / "certified.parquet").slice(0, 59), out / "certified.parquet")
    assert run(["replay", str(out)]) != 0


def test_a_profile_whose_chips_leave_the_box_says_why_nothing_is_proven(samples, tmp_path, capsys):
    (tmp_path / "device.toml").write_text(
        'schema = 1\nname = "faulty"\nsource = "test"\n[device]\ntolerance = 0.03\nsigma ='
        " 0.01\n[faults]\nstuck_low = 0.001\nstuck_high = 0.0\n"
    )
    certificate = analyze(samples, tmp_path / "out", "--device", str(tmp_path / "device.toml"))
    assert certificate["certified"]["score"] is None
    assert (
        certificate["certified"]["reason"]
        == "the profile has stuck devices, which lie outside the tolerance box"
    )
    assert "outside the tolerance box" in (tmp_path / "out" / "certificate.html").read_text()
