"""Shapes in annotations hold at run time."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "tests/unit/certify/test_given.py",
    "tests/unit/certify/test_narrow.py",
    "tests/unit/data/test_class_axis.py",
    "tests/unit/data/test_failure.py",
    "tests/unit/mapping",
    "tests/unit/montecarlo/test_table.py",
)
#: A test module that gives a function rows without an axis of classes.
WRONG = """
import numpy as np
import pytest
from cimrobust.data.class_logits import have_decision

def test_rows_have_two_axes():
    with pytest.raises(Exception, match="decisions classes"):
        have_decision(np.zeros(3))
"""


def run_with_shapes(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tests in another process that checks the shape of every array."""
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env=environment | {"CIMROBUST_CHECK_SHAPES": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_arrays_have_the_shapes_of_their_annotations() -> None:
    done = run_with_shapes(*SMALL)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def test_another_shape_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "test_wrong.py").write_text(WRONG)
    done = run_with_shapes(
        "--confcutdir", str(ROOT), "-p", "tests.conftest", str(tmp_path / "test_wrong.py")
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


#: An array with its element type and shape, and one without.
SHAPED = re.compile(r"\b[A-Z]\w+\[(?:np\.ndarray|Tensor), '[^']*'\]")
BARE = re.compile(r"np\.ndarray|(?<!TypeProto\.)\bTensor\b")


def annotations(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of every annotation."""
    for node in ast.walk(tree):
        stated = node.returns if isinstance(node, ast.FunctionDef) else None
        if isinstance(node, ast.arg | ast.AnnAssign):
            stated = node.annotation
        if stated is not None:
            yield stated.lineno, ast.unparse(stated)


def test_every_array_in_an_annotation_has_a_shape() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sorted((ROOT / "cimrobust").rglob("*.py"))
        # `Tensor` is a record there: an input or output of the network.
        if not path.is_relative_to(ROOT / "cimrobust" / "certificate")
        for line, text in annotations(ast.parse(path.read_text(encoding="utf-8")))
        if BARE.search(SHAPED.sub("", text))
    ]
    assert not bare
