"""The one door of in-toto: statements about files, written and read.

The text is ours, because the library turns whole numbers into floats; that it is a Statement v1 is
the library's to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult
from in_toto_attestation.v1.statement import STATEMENT_TYPE_URI, Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from cimrobust.certificate.signing.predicates import TEST_RESULT_TYPE
from cimrobust.json_file import parse_json


@dataclass(frozen=True, order=True)
class Subject:
    """One file that a statement is about.

    Attributes:
        name: Its name.
        sha256: Its digest, hexadecimal.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class About:
    """What a statement says.

    Attributes:
        subjects: Files that it is about, sorted.
        predicate_type: What kind of thing it says.
        predicate: What it says of them.
    """

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Mapping[str, Any]


def write_statement(
    subjects: Iterable[Subject], predicate_type: str, predicate: Mapping[str, Any]
) -> bytes:
    """Return an in-toto Statement v1 as JSON; the same for the same values.

    Args:
        subjects: Files that it is about.
        predicate_type: What kind of thing it says.
        predicate: What it says of them.

    Raises:
        ValueError: It is none, by in-toto's library.
    """
    plain = {
        "_type": STATEMENT_TYPE_URI,
        "subject": [
            {"name": subject.name, "digest": {"sha256": subject.sha256}}
            for subject in sorted(subjects)
        ],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    content = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    read_statement(content)
    return content


def read_statement(content: bytes) -> About:
    """Read an in-toto Statement v1.

    Raises:
        ValueError: It is not JSON, no Statement v1, or a subject has not exactly a name and a
            SHA-256 digest.
        json_format.ParseError: It has other fields than a statement, or than the public predicate
        that it states.
    """
    plain = parse_json(content)
    message = json_format.Parse(content.decode(), StatementMessage())
    Statement.copy_from_pb(message).validate()
    if plain["predicateType"] == TEST_RESULT_TYPE:
        json_format.ParseDict(plain["predicate"], TestResult())
    return About(
        tuple(sorted(_subject(entry) for entry in plain["subject"])),
        plain["predicateType"],
        plain["predicate"],
    )


def _subject(entry: Mapping[str, Any]) -> Subject:
    digest = entry.get("digest", {})
    if set(entry) != {"name", "digest"} or set(digest) != {"sha256"}:
        raise ValueError("subjects must have a name and a sha256 digest alone")
    return Subject(entry["name"], digest["sha256"])
