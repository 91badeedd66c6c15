"""manifest.json.

The digest of every file of a folder of results, so that one signature covers them all.

It lists everything below the folder but itself and signatures, and is written last. Links are never
listed, because what they lead to is not in the folder.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal

from cimrobust.certificate.certificate_files import atomic_text, canonical_json
from cimrobust.certificate.models.listed import ListedFile, Manifest
from cimrobust.certificate.read_record import read_result
from cimrobust.errors import CimrobustError, EvidenceRefutedError, InputRefusedError
from cimrobust.files import sha256_of
from cimrobust.input_file import printable

MANIFEST = "manifest.json"
#: Signatures stand in the folder that they sign, at any depth, and cannot be listed by what they
#: sign.
ATTESTATION, TEST_RESULT = "attestation.dsse.json", "test-result.dsse.json"
ATTESTATION_BUNDLE, TEST_RESULT_BUNDLE = "attestation.sigstore.json", "test-result.sigstore.json"
SIGNATURES = frozenset({ATTESTATION, TEST_RESULT, ATTESTATION_BUNDLE, TEST_RESULT_BUNDLE})

# A folder of results has some dozen files. More than this are not ours: somebody chose a folder of
# other things for --out.
_MAX_FILES = 10_000
_MAX_BYTES = 16 * 2**20
_MAX_DEPTH = 32
_MOST_SHOWN = 5


@dataclass(frozen=True)
class ManifestProblem:
    """One way in which a folder is not what its manifest says.

    Attributes:
        path: File, relative to the folder.
        kind: ``missing``: listed and not there; ``changed``: another size or digest; ``extra``:
            there and not listed; ``unsafe``: a link, another special file, or a listed path that
            does not stay below the folder.
        detail: What was expected and found.
    """

    path: str
    kind: Literal["missing", "changed", "extra", "unsafe"]
    detail: str

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{printable(self.path)} is {self.kind}: {self.detail}"


def write_manifest(folder: Path) -> None:
    """Write the manifest of a finished folder of results; the last file of it.

    A folder with very many files gets none: it was not made for results alone, and could not be
    signed.

    Raises:
        UsageError: The folder cannot be written to.
    """
    found = list(islice(_entries(folder), _MAX_FILES + 1))
    if len(found) > _MAX_FILES:
        (folder / MANIFEST).unlink(missing_ok=True)
        return
    listed = []
    for path, is_plain in found:
        # What cannot be read is not listed, and stands out when the manifest is checked. The
        # results are there all the same.
        with contextlib.suppress(CimrobustError):
            if is_plain:
                listed.append(_listed(folder, path))
    _write(folder, listed)


def update_manifests(folder: Path, name: str) -> None:
    """State in a folder's manifest what one of its files holds now, after the file was made again.

    A manifest of the folder above (of a re-training) that lists both is brought up to date too.
    Without a manifest nothing is done.

    Args:
        folder: The folder.
        name: The file that was written.

    Raises:
        InputRefusedError: The manifest cannot be read.
    """
    if not (folder / MANIFEST).is_file():
        return
    _restate(folder, read_manifest(folder), [name])
    inside = folder.resolve()
    outer, below = inside.parent, [f"{inside.name}/{MANIFEST}", f"{inside.name}/{name}"]
    with contextlib.suppress(InputRefusedError):  # what stands above may be anything
        above = read_manifest(outer)
        if {*below} <= {file.path for file in above.files}:
            _restate(outer, above, below)


def remove_seal(folder: Path) -> None:
    """Remove the manifest and signatures of older results from a folder about to be written to."""
    for name in (MANIFEST, *SIGNATURES):
        (folder / name).unlink(missing_ok=True)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises:
        InputRefusedError: It is missing, too large, not JSON, or does not follow its schema.
    """
    hint = "make the results again into a folder of their own, with this version of cimrobust"
    return read_result(folder / MANIFEST, Manifest, hint=hint, max_bytes=_MAX_BYTES)


def manifest_problems(folder: Path) -> list[ManifestProblem]:
    """Compare a folder with its manifest.

    Sizes are compared before digests are made, and nothing that is listed outside of the folder, or
    behind a link, is opened.

    Args:
        folder: Folder of results.

    Returns:
        Everything that differs, sorted by path; at most some thousand files that are not listed.

    Raises:
        InputRefusedError: There is no manifest, or it does not follow its schema.
    """
    listed = read_manifest(folder).files
    entries = dict(islice(_entries(folder), len(listed) + _MAX_FILES))
    problems = list(_listed_problems(folder, listed, entries))
    known = {file.path for file in listed}
    for path, is_plain in entries.items():
        if not is_plain:
            problems.append(
                ManifestProblem(
                    path,
                    "unsafe",
                    "it must be a regular file below a folder, got a link or another kind of file",
                )
            )
        elif path not in known:
            problems.append(ManifestProblem(path, "extra", f"it is not in {MANIFEST}"))
    return sorted(problems, key=lambda problem: (problem.path, problem.kind))


def unsafe_entries(folder: Path) -> list[str]:
    """Return what is below a folder and is no regular file with a name in UTF-8.

    Links, pipes and the like.
    """
    return [path for path, is_plain in islice(_entries(folder), _MAX_FILES) if not is_plain]


def require_manifest(folder: Path) -> None:
    """Raise unless a folder is as its manifest says; see `manifest_problems`.

    Raises:
        EvidenceRefutedError: The folder is not as its manifest says.
        InputRefusedError: There is no manifest.
    """
    problems = manifest_problems(folder)
    if problems:
        shown = "; ".join(str(problem) for problem in problems[:_MOST_SHOWN])
        more = f"; and {len(problems) - _MOST_SHOWN} more" if len(problems) > _MOST_SHOWN else ""
        raise EvidenceRefutedError(
            f"folder must be as its {MANIFEST} says, got {len(problems)} differences: {shown}{more}"
            f" ({printable(folder)}); do not trust it"
        )


def _listed_problems(
    folder: Path, listed: Iterable[ListedFile], entries: dict[str, bool]
) -> Iterator[ManifestProblem]:
    seen: set[str] = set()
    for file in listed:
        if not _stays_inside(file.path):
            yield ManifestProblem(
                file.path, "unsafe", "it must be a plain relative path below the folder"
            )
        elif file.path in seen:
            yield ManifestProblem(file.path, "unsafe", "it must be listed once, got it twice")
        elif file.path not in entries:
            yield ManifestProblem(file.path, "missing", "it is listed and not in the folder")
        elif entries[file.path]:
            yield from _changed(folder, file)
        seen.add(file.path)


def _changed(folder: Path, file: ListedFile) -> Iterator[ManifestProblem]:
    try:
        size = (folder / file.path).lstat().st_size
        if size != file.bytes:
            yield ManifestProblem(
                file.path, "changed", f"it must have {file.bytes} bytes, got {size}"
            )
            return
        digest = sha256_of(folder / file.path)
    except (OSError, CimrobustError) as err:
        yield ManifestProblem(file.path, "missing", f"it cannot be read ({printable(err)[:200]})")
        return
    if digest != file.sha256:
        yield ManifestProblem(
            file.path, "changed", f"its sha256 must be {file.sha256[:16]}..., got {digest[:16]}..."
        )


def _stays_inside(path: str) -> bool:
    """Return whether a listed path is one that `_entries` could have found."""
    parts = path.split("/")
    return (
        path == str(PurePosixPath(path))
        and not path.startswith("/")
        and "\0" not in path
        and ".." not in parts
        and path != "."
    )


def _entries(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield every path below a folder, sorted, and whether it is a regular file.

    A file whose name is not in UTF-8 counts as not regular. Links are not followed. The manifest of
    the folder itself and signatures are left out.
    """
    yield from (entry for entry in _below(folder, "", _MAX_DEPTH) if entry != (MANIFEST, True))


def _below(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, bool]]:
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(islice(scanned, 2 * _MAX_FILES), key=lambda entry: entry.name)
    except OSError:
        yield prefix.rstrip("/") or ".", False
        return
    for entry in entries:
        path = f"{prefix}{entry.name}"
        is_folder = entry.is_dir(follow_symlinks=False)
        if is_folder and depth > 0:
            yield from _below(Path(entry.path), f"{path}/", depth - 1)
        elif is_folder or not (entry.name in SIGNATURES and entry.is_file(follow_symlinks=False)):
            yield path, entry.is_file(follow_symlinks=False) and _is_text(entry.name)


def _is_text(name: str) -> bool:
    """Return whether a name can be written into a file in UTF-8.

    Names of files are bytes, and may be any.
    """
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _listed(folder: Path, path: str) -> ListedFile:
    return ListedFile(
        path=path, bytes=(folder / path).stat().st_size, sha256=sha256_of(folder / path)
    )


def _restate(folder: Path, manifest: Manifest, names: Iterable[str]) -> None:
    made = {file.path: file for file in manifest.files} | {
        name: _listed(folder, name) for name in names
    }
    files = [made[path] for path in sorted(made)]
    if files != manifest.files:
        _write(folder, files)


def _write(folder: Path, files: Iterable[ListedFile]) -> None:
    listed = sorted(files, key=lambda file: file.path)
    atomic_text(folder / MANIFEST, canonical_json(Manifest(schema_version="1.0", files=listed)))
