"""Archives of arrays that nobody vouches for."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest

from cimrobust.data import array_files as arrays
from cimrobust.data.array_files import names_in_npz, read_npz
from cimrobust.data.member_rows import read_header
from cimrobust.errors import InputRefusedError, UsageError

X = np.arange(60, dtype=np.float32).reshape(3, 20)


def npy(array: np.ndarray) -> bytes:
    """Return an array as a .npy file."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def header(text: str, data: bytes = b"") -> bytes:
    raw = text.encode() + b" " * (118 - len(text) - 1) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(raw)) + raw + data


def write(path, content: bytes, compression: int = zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", content)
    return path


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "|b1"])
def test_arrays_are_read_as_numpy_reads_them(compression, order, dtype, tmp_path):
    array = np.asarray(X, dtype=dtype, order=order)
    found, _ = read_npz(write(tmp_path / "d.npz", npy(array), compression), {"x"})
    np.testing.assert_array_equal(found["x"], array)
    assert found["x"].dtype.isnative


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("at", [0.15, 0.5, 0.9])
def test_damaged_compressed_arrays_are_refused(compression, at, tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path / "d.npz", npy(rng.normal(size=(50, 20))), compression)
    with zipfile.ZipFile(path) as archive:
        size = archive.infolist()[0].compress_size
    content = bytearray(path.read_bytes())
    start = 35 + int(at * (size - 20))
    content[start : start + 20] = bytes(255 - byte for byte in content[start : start + 20])
    path.write_bytes(content)
    with pytest.raises(InputRefusedError, match=r"d.npz, array 'x'"):
        read_npz(path, {"x"})


HEADERS = {
    "negative": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 20), }", X.tobytes()),
        "must fit its file",
    ),
    "more than 64 bits": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808, 9), }"),
        "must fit its file",
    ),
    "no values of a huge shape": (
        header(
            "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807,"
            " 9223372036854775807), }"
        ),
        "must fit its file",
    ),
    "many axes": (
        header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'1,' * 33}), }}", bytes(4)),
        "must fit its file",
    ),
    "text of no length": (
        header("{'descr': '<U0', 'fortran_order': False, 'shape': (99999999999,), }"),
        "must",
    ),
    "a subarray": (
        header(
            "{'descr': ('<f4', (99999999,)), 'fortran_order': False, 'shape': (1,), }", bytes(4)
        ),
        "must",
    ),
    "a structure": (
        header(
            "{'descr': [('a', '<f4'), ('b', '<i4')], 'fortran_order': False, 'shape': (1,), }",
            bytes(8),
        ),
        "hold real numbers",
    ),
    "a structure of nested lists": (
        header("{'descr': " + "[" * 40 + "]" * 40 + ", 'shape': ()}"),
        "NumPy's format",
    ),
    "objects": (
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"cos\nsystem\n"),
        "hold real numbers",
    ),
    "complex numbers": (
        header("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", bytes(8)),
        "hold real numbers",
    ),
    "dates": (
        header("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,), }", bytes(8)),
        "hold real numbers",
    ),
    "no header": (b"hello", "NumPy's format"),
    "half a header": (npy(X)[:40], "NumPy's format"),
    "an unclosed header": (header("{'descr': '<f4', 'shape': (((((((((("), "NumPy's format"),
    "code for a header": (header("__import__('os').abort()"), "NumPy's format"),
    "an unknown version": (b"\x93NUMPY\x09\0" + bytes(100), "NumPy's format"),
    "data cut off": (npy(X)[:-1], "must fit its file, got shape .3, 20. of float32 in 367 bytes"),
    "data left over": (npy(X) + b"x", "must fit its file"),
    "a shape of booleans": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 'a'), }", bytes(4)),
        "NumPy's format",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_lie_are_refused(name, tmp_path):
    content, text = HEADERS[name]
    with pytest.raises(InputRefusedError, match=text):
        read_npz(write(tmp_path / "d.npz", content), {"x"})


def test_an_archive_larger_than_memory_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "available_memory", lambda: 2**20)
    monkeypatch.setattr(np, "empty", lambda *_, **__: pytest.fail("allocated"))
    path = write(tmp_path / "d.npz", npy(np.zeros(2**18, np.float32)), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**12
    with pytest.raises(
        InputRefusedError,
        match=r"half of the free memory, 524288 bytes, got 1048704 bytes \(.*d.npz",
    ):
        read_npz(path, {"x"})


def test_a_directory_that_states_less_than_is_packed_is_refused(tmp_path):
    path = write(tmp_path / "d.npz", npy(X), zipfile.ZIP_DEFLATED)
    size = struct.pack("<L", len(npy(X)))
    path.write_bytes(path.read_bytes().replace(size, struct.pack("<L", 200)))
    with pytest.raises(InputRefusedError, match="array 'x'"):
        read_npz(path, {"x"})


def test_encrypted_entries_are_refused(tmp_path):
    path = write(tmp_path / "d.npz", npy(X))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    path.write_bytes(content)
    with pytest.raises(InputRefusedError, match="array 'x'"):
        read_npz(path, {"x"})


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_stand_twice_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", npy(X))
        archive.writestr("x.npy", npy(X + 1))
    with pytest.raises(
        InputRefusedError, match="data file must name each array once, got repeated names"
    ):
        read_npz(tmp_path / "d.npz", {"x"})


def test_archives_of_too_many_arrays_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MAX_MEMBERS", 1)
    np.savez(tmp_path / "d.npz", x=X, y=X)
    with pytest.raises(InputRefusedError, match="data file must hold at most 1 arrays, got 2"):
        read_npz(tmp_path / "d.npz", {"x"})


def test_a_long_header_is_refused_before_it_is_read():
    content = b"\x93NUMPY\x02\x00" + (10**9).to_bytes(4, "little")
    with pytest.raises(ValueError, match="its header has 1000000000 bytes, more than"):
        read_header(io.BytesIO(content))


def test_large_archives_of_64_bits_are_read(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "d.npz", "w") as archive,
        archive.open("x.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(npy(X))
    np.testing.assert_array_equal(read_npz(tmp_path / "d.npz", {"x"})[0]["x"], X)


def test_names_of_an_archive_cannot_forge_output(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("\x1b[31m\nerror.npy", npy(X))
    with pytest.raises(UsageError, match="must hold the arrays") as caught:
        read_npz(tmp_path / "d.npz", {"x"})
    assert str(caught.value).isprintable()


def test_bytes_are_text(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.array(["grün".encode(), b"rot"]))
    assert read_npz(tmp_path / "d.npz", {"x"})[0]["x"].tolist() == ["grün", "rot"]
    np.savez(tmp_path / "d.npz", x=np.array([b"\xff"]))
    with pytest.raises(InputRefusedError, match=r"array must be readable, not damaged.*utf-8"):
        read_npz(tmp_path / "d.npz", {"x"})


@pytest.mark.parametrize("dtype", [object, np.complex64, "M8[D]"])
def test_arrays_of_other_kinds_are_refused_with_what_to_do(dtype, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.arange(3).astype(dtype))
    with pytest.raises(InputRefusedError, match=r"must hold real numbers or text.*convert it"):
        read_npz(tmp_path / "d.npz", {"x"})


def test_what_else_an_archive_holds_is_no_array(tmp_path):
    np.savez(tmp_path / "d.npz", x=X)
    with zipfile.ZipFile(tmp_path / "d.npz", "a") as archive:
        archive.writestr("README.txt", "made by hand")
        archive.writestr("__MACOSX/._x.npy", b"\0")
    assert names_in_npz(tmp_path / "d.npz") == ["x"]
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(InputRefusedError, match="data file must hold arrays, got an empty archive"):
        names_in_npz(tmp_path / "empty.npz")


def test_booleans_of_strange_bytes_are_true(tmp_path):
    content = header("{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }", b"\x00\x01\x07")
    assert read_npz(write(tmp_path / "d.npz", content), {"x"})[0]["x"].view(np.uint8).tolist() == [
        0,
        1,
        1,
    ]
