"""Malformed profiles, policies, descriptions and data files: one clear line that names file and
place, exit code 2 or 5.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cimrobust.certificate.policy import read_policy
from cimrobust.data.load_dataset import load_data
from cimrobust.device.load_profile import load_profile
from cimrobust.errors import CimrobustError, UsageError
from cimrobust.onnx_io.network import TensorSpec

INPUT = (TensorSpec("image", "float32", ("batch", 1, 2, 2)),)

PROFILES = {
    "not toml": ("name = ", "TOML"),
    "wrong schema": ('schema = 2\nname = "x"\n[device]\ntolerance = 0.1\nsigma = 0.1', "schema"),
    "no device": ('schema = 1\nname = "x"', "'device' is missing"),
    "unknown key": (
        'schema = 1\nname = "x"\n[device]\ntolerence = 0.1\nsigma = 0.1',
        "nearest known key 'tolerance'",
    ),
    "unknown table": (
        'schema = 1\nname = "x"\n[wieght]\nbits = 8\n[device]\ntolerance = 0.1\nsigma = 0.1',
        "nearest known key 'weight'",
    ),
    "text for a number": (
        'schema = 1\nname = "x"\n[device]\ntolerance = "3%"\nsigma = 0.1',
        "device.tolerance",
    ),
    "tolerance above 1": (
        'schema = 1\nname = "x"\n[device]\ntolerance = 3\nsigma = 0.1',
        "device.tolerance",
    ),
    "negative sigma": (
        'schema = 1\nname = "x"\n[device]\ntolerance = 0.1\nsigma = -1',
        "device.sigma",
    ),
    "no sigma": ('schema = 1\nname = "x"\n[device]\ntolerance = 0.1', "needs 'sigma'"),
    "no tolerance": ('schema = 1\nname = "x"\n[device]\nsigma = 0.1', "needs 'tolerance'"),
    "zero bits": (
        'schema = 1\nname = "x"\n[weight]\nbits = 0\n[device]\ntolerance = 0.1\nsigma = 0.1',
        "weight.bits",
    ),
    "unknown mapping": (
        (
            'schema = 1\nname = "x"\n[weight]\nmapping = "twin"\n[device]\ntolerance = 0.1\nsigma'
            " = 0.1"
        ),
        "weight.mapping",
    ),
    "falling quantiles": (
        'schema = 1\nname = "x"\n[device]\ndistribution = "table"\nquantiles = [0.1, -0.1]',
        "ascend",
    ),
    "NaN": ('schema = 1\nname = "x"\n[device]\ntolerance = nan\nsigma = 0.1', "device.tolerance"),
    "curve without its window": (
        (
            'schema = 1\nname = "x"\n[device]\ntolerance = 0.1\nsigma = { form = "polynomial",'
            ' coefficients = [1], unit = "microsiemens" }'
        ),
        "device.sigma",
    ),
}

POLICIES = {
    "empty": ("", "'require' is missing"),
    "no requirement": ("[require]", "at least one requirement"),
    "unknown requirement": (
        "[require]\nworst_accuracy = 0.9",
        "nearest known key 'worst_found_accuracy'",
    ),
    "kpp without accuracy": ("[require]\nkpp = { k = 1 }", "accuracy"),
    "k of 0": ("[require]\nkpp = { k = 0, accuracy = 0.9 }", "greater than 0"),
    "unknown effort": ('[require]\neffort = "much"', "effort"),
    "text for a number": ('[require]\nclean_accuracy = "high"', "clean_accuracy"),
}

GOOD = 'schema = 1\nfile = "d.npz"\n[[input]]\nname = "image"\narray = "x"\n'
DESCRIPTIONS = {
    "not toml": ("[[input", "TOML"),
    "missing data file": (GOOD.replace("d.npz", "none.npz"), "none.npz"),
    "unknown array": (GOOD.replace('array = "x"', 'array = "z"'), "'z'"),
    "unknown label array": (GOOD + '[label]\narray = "labels"', "labels"),
    "unknown input name": (GOOD.replace('"image"', '"imaeg"'), "imaeg"),
    "unknown step": (GOOD + 'steps = [{ op = "normalise", value = 1 }]', "op"),
    "step without its number": (GOOD + 'steps = [{ op = "divide" }]', "takes 'value'"),
    "divide by zero": (GOOD + 'steps = [{ op = "divide", value = 0 }]', "divide by 0"),
    "wrong perm": (GOOD + 'steps = [{ op = "transpose", perm = [1, 0] }]', "perm"),
    "wrong reshape": (GOOD + 'steps = [{ op = "reshape", shape = [3, 3] }]', "shape"),
    "wrong rank": (GOOD + 'steps = [{ op = "reshape", shape = [4] }]', "'image'"),
    "three numbers for two channels": (
        GOOD + 'steps = [{ op = "subtract", value = [1, 2, 3] }]',
        "last axis",
    ),
    "two labels": (GOOD + '[label]\narray = "y"\nself = true', "exactly one"),
    "threshold without value": (GOOD + '[decision]\nread = "threshold"', "value"),
    "accuracy of a regression": (
        GOOD + '[decision]\nread = "value"\nmetric = "accuracy"',
        "does not fit",
    ),
    "unknown metric": (GOOD + '[decision]\nmetric = "f1"', "metric"),
}


def refused(call: Callable[[], object], *, code: int, texts: tuple[str, ...]) -> None:
    with pytest.raises(CimrobustError) as caught:
        call()
    assert caught.value.exit_code == code
    message = str(caught.value)
    assert "\n" not in message
    assert all(text in message for text in texts), message


@pytest.mark.parametrize("name", PROFILES)
def test_bad_profiles_name_file_and_key(name, tmp_path):
    body, text = PROFILES[name]
    path = tmp_path / "p.toml"
    path.write_text(body)
    refused(lambda: load_profile(path), code=2, texts=("p.toml", text))


@pytest.mark.parametrize("name", POLICIES)
def test_bad_policies_name_file_and_key(name, tmp_path):
    body, text = POLICIES[name]
    path = tmp_path / "policy.toml"
    path.write_text(body)
    refused(lambda: read_policy(path), code=2, texts=("policy.toml", text))


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_bad_descriptions_name_file_and_key(name, tmp_path):
    body, text = DESCRIPTIONS[name]
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 1, 2, 2), np.float32), y=np.zeros(3, np.int64))
    (tmp_path / "d.toml").write_text(body)
    refused(lambda: load_data(tmp_path / "d.toml", inputs=INPUT), code=2, texts=(text,))


def npz(path: Path, **arrays: np.ndarray) -> None:
    np.savez(path, **arrays)


def lying_header(path: Path) -> None:
    good = io.BytesIO()
    np.lib.format.write_array(good, np.zeros(4, np.float32))
    content = good.getvalue().replace(b"(4,)", b"(9999999999,)".ljust(4))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content)
        archive.writestr("y.npy", good.getvalue())


X = np.zeros((3, 1, 2, 2), np.float32)
Y = np.zeros(3, np.int64)
DATA_FILES = {
    "missing": (lambda path: None, 2, "d.npz"),
    "empty": (lambda path: path.write_bytes(b""), 5, "d.npz"),
    "text": (lambda path: path.write_text("x,y"), 5, "d.npz"),
    "no labels": (lambda path: npz(path, x=X), 2, "'y'"),
    "objects": (lambda path: np.savez(path, x=np.array([{}], dtype=object), y=Y), 5, "array 'x'"),
    "text for numbers": (lambda path: npz(path, x=np.full((3, 1, 2, 2), "a"), y=Y), 2, "array 'x'"),
    "lying header": (lying_header, 5, "array 'x'"),
    "fewer labels": (lambda path: npz(path, x=X, y=Y[:2]), 2, "labels"),
    "no samples": (lambda path: npz(path, x=X[:0], y=Y[:0]), 2, "one or more samples"),
    "NaN": (lambda path: npz(path, x=X + np.nan, y=Y), 2, "finite"),
    "wrong shape": (lambda path: npz(path, x=np.zeros((3, 1, 5, 5), np.float32), y=Y), 2, "image"),
}


@pytest.mark.parametrize("name", DATA_FILES)
def test_bad_data_files_name_file_and_array(name, tmp_path):
    write, code, text = DATA_FILES[name]
    write(tmp_path / "d.npz")
    refused(lambda: load_data(tmp_path / "d.npz", inputs=INPUT), code=code, texts=("d.npz", text))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99])
def test_truncated_archives_are_refused(share, tmp_path):
    npz(tmp_path / "d.npz", x=X, y=Y)
    content = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(content[: int(share * len(content))])
    refused(lambda: load_data(tmp_path / "d.npz", inputs=INPUT), code=5, texts=("d.npz",))


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_flipped_byte_never_gives_a_traceback(position, value, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flip")
    npz(folder / "d.npz", x=X, y=Y)
    raw = bytearray((folder / "d.npz").read_bytes())
    raw[position % len(raw)] = value
    (folder / "d.npz").write_bytes(raw)
    try:
        loaded = load_data(folder / "d.npz", inputs=INPUT)
    except CimrobustError:
        return
    assert loaded.inputs["image"].shape == X.shape


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_is_a_profile_or_a_usage_error(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "p.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(UsageError):
        load_profile(path)


@pytest.mark.parametrize(
    "what", ["nothing.xyz", "no_such_module:function", "cimrobust.errors:nothing"]
)
def test_sources_that_do_not_exist(what):
    refused(lambda: load_data(what, inputs=INPUT), code=2, texts=(what,))
