"""Damage: bytes, fields of protobuf messages, lines of settings, entries of certificates."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message

NUMBERS = (
    0,
    -1,
    1,
    2,
    3,
    7,
    127,
    128,
    255,
    2**31 - 1,
    -(2**31),
    2**31,
    2**32,
    2**40,
    2**62,
    2**63 - 1,
    -(2**63),
)
REALS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    1e-45,
    1e-38,
    1e38,
    -1e38,
    float("inf"),
    float("-inf"),
    float("nan"),
    0.5,
)
TEXTS = (
    "",
    "x",
    "Relu",
    "Gemm",
    "MatMul",
    "Loop",
    "..",
    "../../x",
    "/etc/passwd",
    "\n",
    "\x1b[31m",
    "é" * 40,
    "a" * 5000,
    "v1",
    "v2",
    "v3",
)
TOML_VALUES = (
    "0",
    "-1",
    "1",
    "2",
    "3.5",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "5e-324",
    "9223372036854775807",
    "1" + "0" * 30,
    '""',
    '"x"',
    "true",
    "[]",
    "[1, 2]",
    "[[1]]",
    "{}",
    "{ a = 1 }",
    "1979-05-27",
    '"../../x"',
    '"\\u001b[31m"',
    "0x7fffffff",
    "1e400",
    "100000",
    "16",
    "65",
    "0.03",
)
JSON_VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    1e308,
    2**63,
    "",
    "x",
    "..",
    [],
    {},
    [1],
    "../../etc/passwd",
    "a" * 3000,
    10**18,
    1e-300,
)


def damage_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip, cut out, double and overwrite bytes."""
    data = bytearray(content)
    for _ in range(int(rng.choice([1, 1, 1, 2, 5]))):
        if not data:
            break
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 9))
        way = int(rng.choice([0, 0, 1, 1, 2, 3, 4]))
        if way == 0:
            data[at] = int(rng.integers(256))
        elif way == 1:
            data[at] ^= 1 << int(rng.integers(8))
        elif way == 2:
            del data[at : at + length]
        elif way == 3:
            data[at:at] = data[at : at + length]
        else:
            data[at : at + length] = bytes([int(rng.choice([0, 255, 127, 128]))]) * length
    return bytes(
        data[: int(rng.integers(1, len(data) + 1))] if data and rng.random() < 0.1 else data
    )


def damage_message(message: Message, rng: np.random.Generator) -> None:
    """Change some fields, anywhere in a message, in place."""
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        found = _messages(message, 0)
        _change(found[int(rng.integers(len(found)))], rng)


def _messages(message: Message, depth: int) -> list[Message]:
    """Return a message and all inside it; large lists by a few of their entries."""
    found = [message]
    if depth > 12:
        return found
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        parts = list(value)[:200] if _is_list(descriptor) else [value]
        for part in parts:
            found += _messages(part, depth + 1)
    return found


def _is_list(descriptor: Any) -> bool:
    repeated = getattr(descriptor, "is_repeated", None)
    return (
        bool(descriptor.label == descriptor.LABEL_REPEATED) if repeated is None else bool(repeated)
    )


def _change(message: Message, rng: np.random.Generator) -> None:
    fields = message.DESCRIPTOR.fields
    present = [descriptor for descriptor, _ in message.ListFields()]
    pool = present if present and rng.random() < 0.8 else list(fields)
    descriptor = pool[int(rng.integers(len(pool)))]
    try:
        if _is_list(descriptor):
            _change_list(getattr(message, descriptor.name), descriptor, rng)
        elif descriptor.message_type is not None:
            (
                message.ClearField(descriptor.name)
                if rng.random() < 0.6
                else getattr(message, descriptor.name).SetInParent()
            )
        elif rng.random() < 0.15:
            message.ClearField(descriptor.name)
        else:
            setattr(message, descriptor.name, _value(descriptor, rng))
    except (ValueError, TypeError, OverflowError):  # a value that the field cannot hold
        return


def _change_list(values: Any, descriptor: Any, rng: np.random.Generator) -> None:
    way = int(rng.integers(5))
    if descriptor.message_type is not None:
        if way == 0 or not len(values):
            values.add()
        elif way == 1:
            del values[int(rng.integers(len(values)))]
        elif way == 2:
            values.add().CopyFrom(values[int(rng.integers(len(values)))])
        else:
            one, other = int(rng.integers(len(values))), int(rng.integers(len(values)))
            values[one].CopyFrom(type(values[other]).FromString(values[other].SerializeToString()))
        return
    if way == 0 or not len(values):
        values.append(_value(descriptor, rng))
    elif way == 1:
        del values[int(rng.integers(len(values)))]
    else:
        values[int(rng.integers(len(values)))] = _value(descriptor, rng)


def _value(descriptor: Any, rng: np.random.Generator) -> Any:
    kind = descriptor.cpp_type
    if kind in (descriptor.CPPTYPE_FLOAT, descriptor.CPPTYPE_DOUBLE):
        return float(rng.choice(REALS))
    if kind == descriptor.CPPTYPE_STRING:
        text = str(rng.choice(TEXTS))
        return text if descriptor.type == descriptor.TYPE_STRING else text.encode()
    return int(NUMBERS[int(rng.integers(len(NUMBERS)))])


def damage_model(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a model with changed fields, or changed bytes."""
    if rng.random() < 0.3:
        return damage_bytes(content, rng)
    model = onnx.ModelProto.FromString(content)
    damage_message(model, rng)
    return bytes(model.SerializeToString())


def damage_toml(text: str, rng: np.random.Generator) -> bytes:
    """Return settings with changed values, keys and lines."""
    if rng.random() < 0.2:
        return damage_bytes(text.encode(), rng)
    lines = text.splitlines()
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        at = int(rng.integers(len(lines)))
        way = int(rng.integers(6))
        key, equals, _ = lines[at].partition("=")
        if way < 4 and equals:
            lines[at] = f"{key}= {rng.choice(TOML_VALUES)}"
        elif way == 4:
            lines.insert(at, lines[int(rng.integers(len(lines)))])
        else:
            del lines[at]
            lines = lines or [""]
    return "\n".join(lines).encode()


def damage_json(value: Any, rng: np.random.Generator) -> bytes:
    """Return a JSON text with some entries changed, anywhere."""
    value = json.loads(json.dumps(value))
    for _ in range(int(rng.integers(1, 4))):
        places = _places(value)
        if not places:
            break
        holder, key = places[int(rng.integers(len(places)))]
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = JSON_VALUES[int(rng.integers(len(JSON_VALUES)))]
    return json.dumps(value).encode()


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = (
        list(value)
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else []
    )
    found: list[tuple[Any, Any]] = []
    for key in keys:
        found.append((value, key))
        found += _places(value[key])
    return found
