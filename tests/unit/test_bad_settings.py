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

DEVICE = 'schema = 1\nname = "x"\n[device]\n'
NORMAL = DEVICE + "tolerance = 0.1\nsigma = 0.1\n"


def curve(keys: str) -> str:
    """A profile whose tolerance is a curve of the level."""
    return DEVICE + f"sigma = 0.1\ntolerance = {{ {keys} }}"


PROFILES = {
    "not toml": ("name = ", "device profile must be TOML, got: Invalid value"),
    "no text": (b"name = '\xff'", "device profile must be UTF-8 text, got byte 0xff at 8"),
    "lists in lists": (
        f"a = {'[' * 200_000}",
        "device profile must not nest deeply, got more levels than can be read",
    ),
    "tables in tables": (
        f"[{'.'.join('a' * 60)}]",
        "device profile must hold values that can be read, got tables nested in more than",
    ),
    "a huge number": (
        NORMAL + f"x = {2**70}",
        "must hold values that can be read, got a whole number of 71 bits",
    ),
    "wrong schema": ('schema = 2\nname = "x"\n[device]\ntolerance = 0.1\nsigma = 0.1', "schema"),
    "no device": ('schema = 1\nname = "x"', "must follow its format, got: key 'device' is missing"),
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
    "no sigma": (
        'schema = 1\nname = "x"\n[device]\ntolerance = 0.1',
        "distribution 'truncated_gaussian' needs 'sigma'",
    ),
    "no tolerance": (
        'schema = 1\nname = "x"\n[device]\nsigma = 0.1',
        "needs 'tolerance'; without write-verify give distribution",
    ),
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
        "quantiles must ascend",
    ),
    "a tolerance without write-verify": (
        NORMAL + 'distribution = "gaussian"',
        "distribution 'gaussian' is unbounded and takes no 'tolerance'",
    ),
    "both kinds of tolerance": (
        NORMAL + "tolerance_low = 0.1",
        "give either 'tolerance' or 'tolerance_low' and 'tolerance_high'",
    ),
    "one side of a tolerance": (
        DEVICE + "sigma = 0.1\ntolerance_low = 0.1",
        "'tolerance_low' and 'tolerance_high' belong together",
    ),
    "both kinds of quantiles": (
        DEVICE + 'distribution = "table"\nquantiles = [0, 1]\nlevel_quantiles = [[0, 1], [0, 1]]',
        "give either 'quantiles' or 'level_quantiles'",
    ),
    "one quantile": (
        DEVICE + 'distribution = "table"\nquantiles = [0]',
        "distribution 'table' needs at least two 'quantiles'",
    ),
    "fewer rows than levels": (
        DEVICE + 'distribution = "table"\nbits = 2\nlevel_quantiles = [[0, 1], [0, 1]]',
        "needs a row for each of the 4 levels, got 2",
    ),
    "quantiles beyond the tolerance": (
        DEVICE + 'distribution = "table"\ntolerance = 0.1\nquantiles = [-0.2, 0.1]',
        "'quantiles' must lie within 'tolerance'",
    ),
    "quantiles and a curve": (
        curve('form = "polynomial", coefficients = [0.1]').replace("sigma = 0.1", "")
        + '\ndistribution = "table"\nquantiles = [-0.1, 0.1]',
        "'quantiles' go with one 'tolerance', not with a curve",
    ),
    "a polynomial of nothing": (
        curve('form = "polynomial"'),
        "form 'polynomial' needs 'coefficients', ascending powers",
    ),
    "one coefficient": (
        curve('form = "logarithmic", coefficients = [1]'),
        "form 'logarithmic' needs two 'coefficients'",
    ),
    "saturation from above": (
        curve('form = "saturating", coefficients = [1, 0]'),
        "form 'saturating' needs a second coefficient above 0",
    ),
    "one point": (
        curve('form = "points", x = [0], y = [0.1]'),
        "form 'points' needs 'x' and 'y' of the same length, at least two values",
    ),
    "breaks without pieces": (
        curve('form = "piecewise", breaks = [0.5]'),
        "form 'piecewise' needs 'breaks' and one more 'pieces' than breaks",
    ),
    "falling points": (curve('form = "points", x = [1, 0], y = [0.1, 0.1]'), "'x' must ascend"),
    "a reference of no unit": (
        curve('form = "polynomial", coefficients = [0.1], reference_g_max_microsiemens = 25'),
        "'reference_g_max_microsiemens' belongs to a curve in microsiemens",
    ),
    "an empty window": (
        NORMAL + "[window]\ng_min_microsiemens = 9\ng_max_microsiemens = 9",
        "'g_min_microsiemens' must be below 'g_max_microsiemens'",
    ),
    "no device that works": (
        NORMAL + "[faults]\nstuck_low = 0.5\nstuck_high = 0.5",
        "'stuck_low' and 'stuck_high' must add up to less than 1",
    ),
    "one bit with a sign": (
        NORMAL + '[dac]\nbits = 1\nencoding = "signed"',
        "a signed input needs at least 2 'bits'",
    ),
    "sums of one bit": (
        NORMAL + "[dac]\nbits = 4\n[adc]\nbits = 1",
        "a converter of signed sums needs at least 2 'bits'",
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
    "unknown input name": (
        GOOD.replace('"image"', '"imaeg"'),
        "names must be the graph's inputs ['image'], got ['imaeg']",
    ),
    "unknown step": (GOOD + 'steps = [{ op = "normalise", value = 1 }]', "op"),
    "step without its number": (
        GOOD + 'steps = [{ op = "divide" }]',
        "step 'divide' takes 'value' and nothing else, got nothing",
    ),
    "grey with a number": (
        GOOD + 'steps = [{ op = "grey", value = 3 }]',
        "step 'grey' takes no other key, got value",
    ),
    "grey arrays": (
        GOOD + 'steps = [{ op = "grey" }]',
        "step 'grey' works on image folders, got an array",
    ),
    "divide by zero": (
        GOOD + 'steps = [{ op = "divide", value = 0 }]',
        "step 'divide' must not divide by 0",
    ),
    "wrong perm": (
        GOOD + 'steps = [{ op = "transpose", perm = [1, 0] }]',
        "perm must reorder the 4 axes of shape",
    ),
    "wrong reshape": (
        GOOD + 'steps = [{ op = "reshape", shape = [3, 3] }]',
        "shape must hold the 4 numbers of a sample",
    ),
    "wrong rank": (GOOD + 'steps = [{ op = "reshape", shape = [4] }]', "'image'"),
    "three numbers for two channels": (
        GOOD + 'steps = [{ op = "subtract", value = [1, 2, 3] }]',
        "numbers must be one, or one for each of the last axis's channels",
    ),
    "two labels": (
        GOOD + '[label]\narray = "y"\nself = true',
        "'self = true', and exactly one of them",
    ),
    "a constant with steps": (
        GOOD + 'value = 1\nsteps = [{ op = "divide", value = 2 }]',
        "an input takes 'value', or 'array' and 'steps', not both",
    ),
    "labels counted that are not there": (
        GOOD + "[label]\nself = true\nfirst = 1",
        "'first' and 'ignore' are about labels of an 'array'",
    ),
    "labels listed and counted": (
        GOOD + '[label]\narray = "y"\nclasses = [1, 2]\nfirst = 1',
        "labels are listed by 'classes' or counted from 'first', not both",
    ),
    "a class twice": (
        GOOD + '[label]\narray = "y"\nclasses = [1, 1]',
        "'classes' must list every class once",
    ),
    "classes of targets": (
        GOOD + '[label]\narray = "y"\nclasses = [1, 2]\n[decision]\nread = "value"',
        '[label] classes is about classes; read = "value" has targets',
    ),
    "labels counted that are the output": (
        GOOD + '[label]\narray = "y"\nfirst = 1\n[decision]\nread = "label"',
        "where output and labels are the same numbers; list 'classes'",
    ),
    "k without topk": (GOOD + "[decision]\nk = 2", "needs 'k', and nothing else takes one"),
    "an axis of no classes": (
        GOOD + '[decision]\nread = "value"\naxis = 1',
        "'axis' is that of the classes, or of several thresholds; nothing else takes one",
    ),
    "resized arrays": (
        GOOD + 'steps = [{ op = "resize", size = [2, 2] }]',
        "step 'resize' works on image folders, got an array",
    ),
    "one sample alone": (
        GOOD.replace('"x"', '"one"'),
        "an array must have samples along its first axis, got a single number",
    ),
    "threshold without value": (
        GOOD + '[decision]\nread = "threshold"',
        "needs 'value', and nothing else takes one",
    ),
    "accuracy of a regression": (
        GOOD + '[decision]\nread = "value"\nmetric = "accuracy"',
        "decisions take accuracy, values an error metric",
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
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
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
    npz(tmp_path / "d.npz", x=X, y=Y, one=np.float32(1))
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
    "objects": (
        lambda path: np.savez(path, x=np.array([{}], dtype=object), y=Y),
        5,
        "array must hold real numbers or text, got type object",
    ),
    "text for numbers": (
        lambda path: npz(path, x=np.full((3, 1, 2, 2), "a"), y=Y),
        2,
        "an input must hold numbers, got type <U1",
    ),
    "lying header": (lying_header, 5, "array 'x'"),
    "fewer labels": (lambda path: npz(path, x=X, y=Y[:2]), 2, "as many in every array as labels"),
    "no samples": (
        lambda path: npz(path, x=X[:0], y=Y[:0]),
        2,
        "data must have one or more samples",
    ),
    "NaN": (
        lambda path: npz(path, x=X + np.nan, y=Y),
        2,
        "samples must be finite, got NaN or infinity",
    ),
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


def test_a_byte_order_mark_and_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf" + NORMAL.replace("\n", "\r\n").encode())
    plain = tmp_path / "plain.toml"
    plain.write_text(NORMAL)
    assert load_profile(str(path)) == load_profile(str(plain))
