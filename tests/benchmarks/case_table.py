"""Files that were once read wrongly, run again: a table of what happens today beside what is right.

    python tests/benchmarks/case_table.py --cases ../shared/cases

Every row runs the command line in a process of its own, in a folder that is thrown away.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime as ort

CIMROBUST = [sys.executable, "-m", "cimrobust"]
QUICK = ["--effort", "quick", "--trials", "20", "--workers", "1", "--json"]
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Outcome:
    """What one command did."""

    code: int
    out: str
    err: str
    seconds: float
    folder: Path
    summary: dict = field(default_factory=dict)

    @property
    def said(self) -> str:
        """The last line of talk."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        return lines[-1] if lines else ""


@dataclass(frozen=True)
class Case:
    """One row: what is run, and whether what it did is right."""

    name: str
    right: str
    check: Callable[[Path, Path], tuple[bool, str]]


def run(
    arguments: list[str],
    cwd: Path,
    *,
    seconds: float = 300,
    memory: int | None = None,
    command: list[str] | None = None,
) -> Outcome:
    """Run the command line; a run that takes too long has code 124."""
    begun = time.monotonic()
    call = [*(command or CIMROBUST), *arguments]
    if memory is not None:
        call = ["sh", "-c", f'ulimit -v {memory}; exec "$@"', "sh", *call]
    # The case's own modules may be imported from where it is run, as a user's would.
    paths = os.pathsep.join(filter(None, [str(ROOT), str(cwd), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": paths}
    try:
        done = subprocess.run(
            call,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return Outcome(124, "", f"still running after {seconds:g} s", time.monotonic() - begun, cwd)
    found = Outcome(done.returncode, done.stdout, done.stderr, time.monotonic() - begun, cwd)
    if done.stdout.strip().startswith("{"):
        found.summary = json.loads(done.stdout)
    return found


def analyze(
    case: Path,
    work: Path,
    *more: str,
    model: str = "model.onnx",
    data: str = "data.toml",
    seconds: float = 300,
) -> Outcome:
    """Analyse the network of a case."""
    out = work / "out"
    return run(
        [
            "analyze",
            str(case / model),
            "--data",
            str(case / data),
            *QUICK,
            "--out",
            str(out),
            *more,
        ],
        work,
        seconds=seconds,
    )


def shown(found: Outcome) -> str:
    """Say what happened in a few words."""
    if found.code != 0 or not found.summary:
        return f"exit {found.code}: {found.said[:160]}"
    worst, certified = found.summary["worst_found"], found.summary["certified"]
    bound = "none" if certified is None else f"{certified:.4f}"
    return f"exit 0, clean {found.summary['clean']:.4f}, worst found {worst:.4f}, certified {bound}"


def layers(case: Path, work: Path, model: str = "model.onnx") -> list[str]:
    """Return the crossbar layers that inspect lists."""
    found = run(["inspect", str(case / model), "--json"], work)
    return [layer["initializer"] for layer in found.summary.get("layers", [])]


def refused(found: Outcome, code: int, *words: str) -> tuple[bool, str]:
    """Whether a command ended with a code and one sentence that has the words."""
    text = found.err
    clean = "Traceback" not in text and "internal error" not in text
    return clean and found.code == code and all(word in text for word in words), shown(found)


def attention(case: Path, work: Path) -> tuple[bool, str]:
    found = analyze(case, work)
    return found.code == 0 and found.summary["worst_found"] <= 0.5834, shown(found)


def data_function(_case: Path, work: Path) -> tuple[bool, str]:
    sample = str(ROOT / "samples" / "breast_cancer_mlp.onnx")
    (work / "mydata.py").write_text("def data():\n    raise SystemExit(0)\n")
    (work / "hard.py").write_text("import os\n\n\ndef data():\n    os._exit(0)\n")
    codes = []
    for source in ("sys:exit", "mydata:data", "hard:data"):
        found = run(["analyze", sample, "--data", source, *QUICK, "--out", str(work / "out")], work)
        codes.append(found.code)
    return codes == [2, 2, 2] and not (work / "out" / "certificate.json").exists(), f"exit {codes}"


def denormal(case: Path, work: Path) -> tuple[bool, str]:
    found = analyze(case, work, "--limit", "8", model="denormw.onnx", data="d.npz")
    return found.code == 0, shown(found)


def dropout(case: Path, work: Path) -> tuple[bool, str]:
    found = analyze(case, work)
    right = (
        found.code == 0
        and found.summary["worst_found"] <= 0.6251
        and abs((found.summary["certified"] or 0) - 0.354) < 0.001
    )
    return right, shown(found)


def settings_fifo(_case: Path, work: Path) -> tuple[bool, str]:
    sample, data = (
        ROOT / "samples" / "breast_cancer_mlp.onnx",
        ROOT / "samples" / "breast_cancer_mlp.toml",
    )
    os.mkfifo(work / "p.toml")
    (work / "z.toml").symlink_to("/dev/zero")
    codes = []
    for option in ("--policy", "--device", "--data"):
        for name in ("p.toml", "z.toml"):
            given = [] if option == "--data" else ["--data", str(data)]
            arguments = [
                "analyze",
                str(sample),
                *given,
                option,
                str(work / name),
                *QUICK,
                "--limit",
                "8",
                "--out",
                str(work / "o"),
            ]
            codes.append(run(arguments, work, seconds=60, memory=6_000_000).code)
    return set(codes) == {2}, f"exit {codes}"


def called_twice(case: Path, work: Path) -> tuple[bool, str]:
    named, found = layers(case, work), analyze(case, work)
    return (
        named == ["Wc", "V"]
        and found.code == 0
        and abs(found.summary["worst_found"] - 0.5417) < 0.0209,
        f"layers {named}, {shown(found)}",
    )


def named_relu(case: Path, work: Path) -> tuple[bool, str]:
    found = analyze(case, work, "--limit", "8", model="func_override_std.onnx", data="d.npz")
    return found.code in (0, 4) and "internal error" not in found.err, shown(found)


def keeps_if(case: Path, work: Path) -> tuple[bool, str]:
    named, found = layers(case, work), analyze(case, work)
    written = run(["rewrite", str(case / "model.onnx"), "-o", str(work / "crossbars.onnx")], work)
    same = written.code == 0 and _same_outputs(case / "model.onnx", work / "crossbars.onnx")
    right = (
        {"W1", "W2"} <= set(named) and found.code == 0 and found.summary["clean"] == 1.0 and same
    )
    return (
        right,
        (
            f"layers {named}, {shown(found)}, rewrite"
            f" {'gives the same outputs' if same else 'differs'}"
        ),
    )


def _same_outputs(before: Path, after: Path) -> bool:
    """Whether two files agree within 8-bit weights at several input sizes."""
    first, second = (ort.InferenceSession(str(path)) for path in (before, after))
    spec, generator = first.get_inputs()[0], np.random.default_rng(0)
    for sizes in ((4, 4), (8, 8), (8, 6), (6, 8), (5, 7), (12, 4)):
        free = iter(sizes)
        shape = [
            dim if isinstance(dim, int) else (2 if axis == 0 else next(free))
            for axis, dim in enumerate(spec.shape)
        ]
        feed = {spec.name: generator.normal(size=shape).astype(np.float32)}
        a, b = first.run(None, feed)[0], second.run(None, feed)[0]
        if a.shape != b.shape or np.abs(a - b).max() > 0.05 * max(1.0, float(np.abs(a).max())):
            return False
    return True


def image_bomb(case: Path, work: Path) -> tuple[bool, str]:
    subprocess.run([sys.executable, str(case / "make.py")], cwd=work, check=True, timeout=300)
    sample = str(ROOT / "samples" / "breast_cancer_mlp.onnx")
    found = run(["analyze", sample, "--data", "data.toml", *QUICK, "--out", "out"], work)
    return refused(found, 5, "img/b/1.png")


def inf_logits(case: Path, work: Path) -> tuple[bool, str]:
    found = analyze(case, work, "--limit", "8", model="masked.onnx", data="d.npz")
    arrays, session = np.load(case / "d.npz"), ort.InferenceSession(str(case / "masked.onnx"))
    spec = session.get_inputs()[0]
    rows = [session.run(None, {spec.name: arrays["x"][i : i + 1]})[0] for i in range(8)]
    expected = float(np.mean(np.concatenate(rows).argmax(-1).ravel() == arrays["y"][:8].ravel()))
    return (
        found.code == 0 and found.summary["clean"] == expected,
        f"{shown(found)}; numpy's argmax {expected:.4f}",
    )


def saturation(case: Path, work: Path) -> tuple[bool, str]:
    found = analyze(case, work)
    right = found.code == 0 and found.summary["clean"] == 1.0 and found.summary["quantised"] == 1.0
    return right, shown(found)


def endless_loop(case: Path, work: Path) -> tuple[bool, str]:
    return refused(run(["inspect", str(case / "loop_inf.onnx")], work, seconds=120), 4, "Loop")


def damaged_npz(case: Path, work: Path) -> tuple[bool, str]:
    found = analyze(case, work, "--limit", "8", model="mlp.onnx", data="bad_LZMAError.npz")
    return refused(found, 5, "bad_LZMAError.npz")


def matmul_nbits(case: Path, work: Path) -> tuple[bool, str]:
    named, found = layers(case, work), analyze(case, work)
    return (
        len(named) == 1 and found.code == 0 and found.summary["clean"] == 1.0,
        f"layers {named}, {shown(found)}",
    )


def multihot(case: Path, work: Path) -> tuple[bool, str]:
    return refused(analyze(case, work), 2, 'read = "threshold"')


def nan_outputs(case: Path, work: Path) -> tuple[bool, str]:
    found = analyze(case, work)
    return found.code in (2, 4, 5) and "NaN" in found.err and "Traceback" not in found.err, shown(
        found
    )


def overflow(case: Path, work: Path) -> tuple[bool, str]:
    found = run(
        [str(case / "repro.py"), "65536", "65536"], work, seconds=60, command=[sys.executable]
    )
    return "ValueError" in found.err + found.out, (found.said or found.out.strip())[:160]


def variable_rows(case: Path, work: Path) -> tuple[bool, str]:
    return refused(analyze(case, work), 2, "[decision] output")


def rope(case: Path, work: Path) -> tuple[bool, str]:
    named = layers(case, work)
    return set(named) == {"W", "V"}, f"layers {named}"


def dense_test_data(case: Path, work: Path) -> tuple[bool, str]:
    found = analyze(case, work, data="td")
    return found.code == 0 and found.summary["clean"] == 1.0, shown(found)


def tiny_percentile(case: Path, work: Path) -> tuple[bool, str]:
    sample = ROOT / "samples" / "breast_cancer_mlp.onnx"
    made = run(
        [
            "analyze",
            str(sample),
            "--data",
            str(sample.with_suffix(".toml")),
            *QUICK,
            "--out",
            "out",
        ],
        work,
    )
    found = run(["gate", "out", "--policy", str(case / "policy.toml")], work)
    return made.code == 0 and found.code == 2, f"exit {found.code}: {found.said[:160]}"


def tokens(case: Path, work: Path) -> tuple[bool, str]:
    found = analyze(case, work)
    if found.code == 2:
        return "[decision] axis" in found.err, shown(found)
    certificate = json.loads((work / "out" / "certificate.json").read_text())
    counted = certificate["clean"]["samples"]
    return counted == 288, f"{shown(found)}, {counted} decisions"


def zip_bomb(case: Path, work: Path) -> tuple[bool, str]:
    subprocess.run([sys.executable, str(case / "make.py"), "5"], cwd=work, check=True, timeout=600)
    sample = str(ROOT / "samples" / "breast_cancer_mlp.onnx")
    found = run(
        ["analyze", sample, "--data", "bomb.npz", *QUICK, "--out", "out"], work, memory=4_000_000
    )
    return refused(found, 5, "bomb.npz")


CASES = (
    Case("attention_contrib", "worst found at most 0.5833", attention),
    Case("data_function_exit", "exit 2, no certificate", data_function),
    Case("denormal_weights", "exit 0", denormal),
    Case("dropout_training", "as without Dropout: 0.625, 0.354", dropout),
    Case("fifo_settings", "exit 2 each time", settings_fifo),
    Case("function_called_twice", "Wc is one layer beside V, worst found 0.5417", called_twice),
    Case("function_named_relu", "right numbers, or exit 4", named_relu),
    Case("if_modulo", "W1 and W2, clean 1.0, If kept", keeps_if),
    Case("if_two_sizes", "W1 and W2, clean 1.0, If kept", keeps_if),
    Case("image_bomb", "exit 5 with the file's name", image_bomb),
    Case("inf_logits", "decisions of numpy's argmax", inf_logits),
    Case("int8_saturation", "clean 1.0, float and quantised", saturation),
    Case("loop_forever", "exit 4 with the node", endless_loop),
    Case("lzma_npz", "exit 5: damaged", damaged_npz),
    Case("matmulnbits", "one layer, clean 1.0", matmul_nbits),
    Case("multihot_labels", 'exit 2, names read = "threshold"', multihot),
    Case("nan_outputs", "refused or counted, by name", nan_outputs),
    Case("native_overflow", "ValueError", overflow),
    Case("nms_output", "exit 2, another [decision] output", variable_rows),
    Case("rope_frequencies", "W and V alone", rope),
    Case("testdata_dense", "clean 1.0", dense_test_data),
    Case("tiny_k_policy", "exit 2", tiny_percentile),
    Case("tokens_self", "288 decisions, or asks for [decision] axis", tokens),
    Case("zip_bomb", "exit 5", zip_bomb),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=Path, default=ROOT.parent / "shared" / "cases")
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    print("| case | right | today | |\n|---|---|---|---|")
    wrong = 0
    for case in CASES:
        if given.only and case.name not in given.only:
            continue
        with tempfile.TemporaryDirectory() as work:
            try:
                holds, text = case.check((given.cases / case.name).resolve(), Path(work))
            except Exception as err:  # a row that cannot be made is a row that does not hold
                holds, text = False, f"{type(err).__name__}: {err}"
            wrong += not holds
            today = " ".join(
                text.replace(work, "...")
                .replace(str(given.cases.resolve()), "cases")
                .replace("|", "\\|")
                .split()
            )
            print(
                f"| `{case.name}` | {case.right} | {today} |"
                f" {'holds' if holds else '**does not hold**'} |",
                flush=True,
            )
    print(f"\n{len(CASES) - wrong} rows hold, {wrong} do not.", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
