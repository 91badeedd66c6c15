"""JSON of others: what the standard leaves to chance is refused."""

from __future__ import annotations

import pytest

from cimrobust.json_file import parse_json


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": NaN}', "NaN is not a number of JSON"),
        ('{"a": [Infinity]}', "Infinity is not"),
        ('{"a": -Infinity}', "-Infinity is not"),
        ('{"a": 1e999}', "1e999 is larger than a number can be"),
        ('{"a": -1e999}', "larger than a number"),
        ('{"a": 1' + "0" * 5000 + "}", "larger than a whole number can be"),
        ('{"a": 18446744073709551616}', "larger than a whole number can be"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' stands twice in one object"),
        ("[" * 100_000 + "]" * 100_000, "it nests deeper than can be read"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "it nests deeper than can be read"),
        ("", "Expecting value"),
        ('{"a": 1} x', "Extra data"),
    ],
)
def test_json_that_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        parse_json(text)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b'{"a": "\xff"}', b"\x00"]
)
def test_other_encodings_are_refused(content):
    with pytest.raises(ValueError, match=r"codec|BOM|Expecting value"):
        parse_json(content)


def test_numbers_keep_their_value():
    assert parse_json(
        '[18446744073709551615, -9223372036854775808, 1e308, 5e-324, -0.0, "\\u00e9"]'
    ) == [
        2**64 - 1,
        -(2**63),
        1e308,
        5e-324,
        -0.0,
        "é",
    ]


@pytest.mark.parametrize("text", ['["\\ud800"]', '{"\\uDFFF": 1}', '["\\udc00\\ud800"]'])
def test_half_a_character_is_refused(text):
    with pytest.raises(ValueError, match="is half a character"):
        parse_json(text)


def test_both_halves_are_one_character():
    assert parse_json('["\\ud83d\\ude00"]') == ["\U0001f600"]


def test_one_key_twice_among_many_is_found_in_time():
    keys = ",".join(f'"{number}":1' for number in [*range(200_000), 199_999])
    with pytest.raises(ValueError, match="key '199999' stands twice"):
        parse_json(f"{{{keys}}}")
