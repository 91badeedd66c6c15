"""Keys of settings files and of result files, table by table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter

from cimrobust.certificate.policy import Policy
from cimrobust.certificate.published_schemas import FORMATS, OUTPUTS, described_schema
from cimrobust.data.description import Description
from cimrobust.device.profile_keys import ProfileFile
from cimrobust.device.table_types import Table
from cimrobust.field_texts import field_texts
from generator.markdown import anchor, prose, table

Schema = Mapping[str, Any]
_SETTINGS = "Settings are TOML. Unknown keys are errors that name the nearest known one."


def policy_page() -> str:
    """Return the keys of policies."""
    return _settings_page(
        Policy,
        "# Policy keys",
        "A policy says what a certificate has to show: `cimrobust gate DIR --policy FILE`.",
    )


def profile_page() -> str:
    """Return the keys of device profiles."""
    return _settings_page(
        ProfileFile,
        "# Device profile keys",
        "[Devices](../how-to/devices.md) has an example, and the profiles that are shipped."
        " Fractions are of the conductance range g_max - g_min.",
    )


def data_page() -> str:
    """Return the keys of data descriptions."""
    return _settings_page(
        Description,
        "# Data description keys",
        "[How data are read](../how-to/data.md) says what follows from them; `cimrobust init`"
        " writes a description to begin with.",
    )


def schemas_page() -> str:
    """Return the list of formats."""
    rows = [
        (
            f"[{name}](schema-{name}.md)",
            kind.VERSION,
            f"`cimrobust schema {name}`",
            prose(_first_sentence(kind)),
        )
        for name, kind in FORMATS.items()
    ]
    text = (
        "Result files follow published schemas (JSON Schema 2020-12). `schema_version` in a file is"
        " the version that it follows;\nfiles of every older version are read. `cimrobust schema"
        " NAME --version V` prints any version.\n"
    )
    printed = [
        (f"`{name}`", f"`cimrobust schema {name}`", prose(_first_sentence(kind)))
        for name, kind in OUTPUTS.items()
    ]
    return (
        "# Schemas of result"
        f" files\n\n{text}\n{table(('format', 'version', 'command', 'what'), rows)}\n"
        "## What commands print\n\nOutput of `--json` follows a schema too. `suggest` and `compare`"
        " print what their files hold,\nand `schema` prints nothing but JSON. Later versions may"
        f" have more fields.\n\n{table(('output', 'command', 'what'), printed)}"
    )


def schema_pages() -> dict[str, Callable[[], str]]:
    """Return a page for every format, by its name."""
    return {name: lambda name=name: _schema_page(name) for name in FORMATS}


def _schema_page(name: str) -> str:
    schema = described_schema(FORMATS[name])
    title = (
        f"# Schema: {name} {FORMATS[name].VERSION}\n\n`cimrobust schema {name}` prints it as JSON"
        " Schema.\n\n## The file\n"
    )
    return title + _tables(schema, {key: key for key in schema["$defs"]}, nullable=True)


def _first_sentence(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or "").partition("\n\n")[0]


def _settings_page(kind: type[Any], title: str, text: str) -> str:
    schema = TypeAdapter(kind).json_schema(by_alias=True)
    paths = dict(_paths(schema, ""))
    alone = [found[0] for found in paths.values() if len(found) == 1]
    # Two definitions under one key are two forms of it, so both have names of their own.
    headings = {
        name: (
            found[0]
            if len(found) == 1 and alone.count(found[0]) == 1
            else name.removesuffix("Model")
        )
        for name, found in paths.items()
    }
    schema["properties"] = _described(kind, schema["properties"])
    for name, definition in schema["$defs"].items():
        definition["properties"] = _described(_model(kind, name), definition["properties"])
    return (
        f"{title}\n\n{text} {_SETTINGS}\n\n## The file\n{_tables(schema, headings, nullable=False)}"
    )


def _model(root: type[Any], name: str) -> type[Any]:
    """Return the model of a definition, by its name."""
    kinds = [
        kind
        for base in (BaseModel, Table)
        for kind in _subclasses(base)
        if kind.__name__ == name and kind.__module__.startswith(root.__module__.rsplit(".", 1)[0])
    ]
    assert len(kinds) == 1, f"{name} is the name of {len(kinds)} models"
    return kinds[0]


def _subclasses(kind: type) -> Iterator[type]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _described(kind: type[Any], properties: Schema) -> dict[str, Any]:
    """Return properties, in the order of the class, with the text behind every field.

    KeyError where a field has none.
    """
    known = getattr(kind, "model_fields", {})
    texts = {
        (known[name].alias or name if name in known else name): text
        for name, text in field_texts(kind).items()
    }
    missing = sorted(properties.keys() - texts.keys())
    if missing:
        raise KeyError(f"{kind.__name__} has no text behind {', '.join(missing)}")
    return {
        key: {**properties[key], "description": text}
        for key, text in texts.items()
        if key in properties
    }


def _paths(
    schema: Schema, prefix: str, found: dict[str, list[str]] | None = None
) -> dict[str, list[str]]:
    """Return under which keys every definition is found."""
    found = {} if found is None else found
    definitions = schema.get("$defs", {})

    def walk(part: Schema, prefix: str) -> None:
        for key, value in part.get("properties", {}).items():
            path = f"{prefix}.{key}" if prefix else key
            for name in _references(value):
                found.setdefault(name, [])
                if path not in found[name]:
                    first = not found[name]
                    found[name].append(path)
                    if first:
                        walk(definitions[name], path)

    walk(schema, prefix)
    return found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rsplit("/", 1)[1]
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)


def _tables(schema: Schema, headings: Mapping[str, str], *, nullable: bool) -> str:
    """Return the table of the file, then one per definition, in the order they are met."""
    parts = [_table(schema, headings, nullable=nullable)]
    for name in _order(schema):
        definition, heading = schema["$defs"][name], headings[name]
        title = heading if heading == name or nullable else f"`{heading}`"
        parts.append(f"## {title}\n\n{_summary(definition)}\n")
        parts.append(_table(definition, headings, nullable=nullable))
    return "\n" + "\n".join(parts)


def _order(schema: Schema) -> list[str]:
    names: list[str] = []
    queue: list[Any] = [schema["properties"]]
    while queue:
        for name in _references(queue.pop(0)):
            if name not in names:
                names.append(name)
                queue.append(schema["$defs"][name].get("properties", {}))
    return names


def _summary(definition: Schema) -> str:
    return prose(definition.get("description", "")).strip()


def _table(definition: Schema, headings: Mapping[str, str], *, nullable: bool) -> str:
    required = set(definition.get("required", ()))
    if nullable:
        rows = [
            (f"`{key}`", _type(value, headings, nullable=True), prose(value["description"]))
            for key, value in definition["properties"].items()
        ]
        return table(("key", "type", "meaning"), rows)
    rows = [
        (
            f"`{key}`",
            _type(value, headings, nullable=False),
            _default(key, value, required),
            prose(value["description"]),
        )
        for key, value in definition["properties"].items()
    ]
    return table(("key", "type", "default", "meaning"), rows)


def _default(key: str, value: Schema, required: set[str]) -> str:
    if key in required:
        return "required"
    default = value.get("default")
    if default is None:
        return "none"
    if isinstance(default, dict) or (isinstance(default, list) and default):
        return "its defaults"
    if isinstance(default, bool):
        return "`true`" if default else "`false`"
    return f"`{default!r}`".replace("'", '"')


def _type(value: Schema, headings: Mapping[str, str], *, nullable: bool) -> str:
    """Return the type of a value in words."""
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[1]
        return f"[{headings[name]}](#{anchor(headings[name])})"
    if "const" in value:
        return f"`{value['const']!r}`".replace("'", '"')
    if "enum" in value:
        return ", ".join(f"`{choice!r}`".replace("'", '"') for choice in value["enum"])
    for key in ("anyOf", "oneOf"):
        if key in value:
            texts = [
                _type(part, headings, nullable=nullable)
                for part in value[key]
                if nullable or part.get("type") != "null"
            ]
            return " or ".join(
                text for text in dict.fromkeys(texts) if text != "integer" or "number" not in texts
            )
    return _plain(value, headings, nullable=nullable)


def _plain(value: Schema, headings: Mapping[str, str], *, nullable: bool) -> str:
    kind = value.get("type")
    if kind == "array":
        length = (
            f"{value['minItems']}, each "
            if value.get("minItems") == value.get("maxItems", -1)
            else ""
        )
        return (
            f"list of {length}{_type(value['items'], headings, nullable=nullable)}"
            if value.get("items")
            else "list"
        )
    if kind == "object":
        inside = value.get("additionalProperties")
        return (
            f"table of {_type(inside, headings, nullable=nullable)}"
            if isinstance(inside, dict)
            else "table"
        )
    word = {
        "string": "text",
        "number": "number",
        "integer": "integer",
        "boolean": "true or false",
        "null": "null",
    }.get(str(kind), "any")
    return word + _range(value)


def _range(value: Schema) -> str:
    """Return the limits of a number."""
    words = {
        "minimum": "from",
        "exclusiveMinimum": "above",
        "maximum": "to",
        "exclusiveMaximum": "below",
    }
    return "".join(f" {word} {_number(value[key])}" for key, word in words.items() if key in value)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"
