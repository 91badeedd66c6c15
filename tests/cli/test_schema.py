"""`cimrobust schema`: any published schema, with no other tool at hand."""

from __future__ import annotations

import json

import jsonschema

from cimrobust.certificate.published_schemas import FORMATS, OUTPUTS, described_schema
from cimrobust.certificate.schema_files import schema_versions
from cimrobust.cli.main import run


def test_the_newest_schema_is_printed(capsys):
    for name, kind in FORMATS.items():
        assert run(["schema", name]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed == described_schema(kind), (
            "write it again: python -m cimrobust.certificate.published_schemas"
        )
        assert printed["$id"] == f"https://cimrobust.org/schemas/{name}-{kind.VERSION}.json"
        jsonschema.Draft202012Validator.check_schema(printed)


def test_every_property_of_the_newest_schemas_is_described():
    for kind in FORMATS.values():
        schema = described_schema(kind)
        for part in (schema, *schema["$defs"].values()):
            assert part["description"]
            assert all(len(field["description"]) > 5 for field in part["properties"].values())


def test_an_older_schema_is_printed_as_it_was_released(capsys):
    assert run(["schema", "certificate", "--version", "1.4.0"]) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == "urn:cimrobust:certificate:1.4.0"


def test_an_unknown_version_names_the_known_ones(capsys):
    assert run(["schema", "sweep", "--version", "3.0"]) == 2
    assert "1.0.0, 1.1.0, 1.2" in capsys.readouterr().err


def test_the_newest_file_of_every_schema_is_that_of_its_model():
    published = FORMATS | OUTPUTS
    assert set(schema_versions()) == set(published)
    newest = {name: list(versions)[-1] for name, versions in schema_versions().items()}
    assert newest == {name: kind.VERSION for name, kind in published.items()}
