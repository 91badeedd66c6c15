"""Short commands import what they read, and nothing that computes."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from cimrobust.cli.deferred_modules import RARELY_USED

#: What runs networks, searches, proves, draws and guesses; each takes longer than a short command.
HEAVY = (
    *(
        "torch",
        "torchvision",
        "onnxruntime",
        "onnx2torch",
        "onnx.reference",
        "sympy",
        "distributed",
    ),
    *("scipy.stats", "scipy.optimize", "matplotlib", "PIL", "pandas", "jsonschema", "jaxtyping"),
)
_CODE = """
import importlib.util, sys
from cimrobust.cli.main import run
code = run(sys.argv[2:])
if code in (2, 70):
    sys.exit(f"the command ended with {code}")
loaded = {
    name for name, module in sys.modules.items() if type(module) is not importlib.util._LazyModule
}
found = sorted(set(sys.argv[1].split(",")) & loaded)
sys.exit(f"imported {', '.join(found)}" if found else 0)
"""


def _run(arguments, without):
    done = subprocess.run(
        [sys.executable, "-c", _CODE, ",".join(without), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_gate_imports_nothing_that_computes(certified, samples):
    # Its bound on the samples beyond these is a root of an equation.
    unused = (*HEAVY, *RARELY_USED, "junitparser", "asyncio", "unittest", "argparse")
    _run(["gate", certified, "--policy", samples / "policies" / "strict.toml"], unused)


def test_gate_imports_the_format_of_its_file_alone(certified, samples):
    models = ("swept", "retrained", "compared", "suggested", "printed_base", "attested")
    unused = tuple(f"cimrobust.certificate.models.{name}" for name in models)
    _run(["gate", certified, "--policy", samples / "policies" / "strict.toml"], unused)


def test_inspect_imports_nothing_that_computes(samples):
    _run(["inspect", samples / "digits_cnn.onnx"], (*HEAVY, "scipy", "pyarrow", "jinja2"))


def test_schema_imports_neither_models_nor_arrays():
    _run(["schema", "certificate"], (*HEAVY, "scipy", "pyarrow", "jinja2", "numpy", "pydantic"))


def test_compare_imports_nothing_that_computes(certified):
    _run(["compare", certified, certified], (*HEAVY, *RARELY_USED, "jinja2"))


@pytest.mark.parametrize("heavy", [name for name in HEAVY if name not in ("matplotlib", "PIL")])
def test_report_imports_nothing_but_what_draws(heavy, rendered_again):
    assert heavy not in rendered_again


@pytest.fixture(scope="module")
def rendered_again(certified, tmp_path_factory):
    """Names of the modules that `report` has imported at its end."""
    folder = tmp_path_factory.mktemp("report") / "out"
    shutil.copytree(certified, folder)
    code = (
        "import sys; from cimrobust.cli.main import run; code = run(['report', sys.argv[1]]);"
        " print(*sys.modules, sep='\\n'); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], check=True, capture_output=True, text=True
    )
    return set(done.stdout.splitlines())
