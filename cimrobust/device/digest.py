"""One digest for one device profile, however its file is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any

from cimrobust.device.load_profile import profile_of
from cimrobust.device.profile_keys import ProfileFile
from cimrobust.device.table_types import Table
from cimrobust.settings_file import check_settings

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile


def profile_digest(profile: DeviceProfile) -> str:
    """Return the SHA-256 digest of a profile's canonical form.

    Keys that have their default value do not count, so that a file may state them or not, and later
    versions may add keys.

    Args:
        profile: The profile.

    Returns:
        64 hexadecimal digits.
    """
    tables = {key: value for key, value in profile.to_dict().items() if key != "defaults_used"}
    read = check_settings(tables, ProfileFile, where=profile.name, what="device profile")
    stated = _stated(read)
    # Digests that certificates state have the key `schema` under this name.
    stated["format"] = stated.pop("schema")
    text = json.dumps(
        stated, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def digest_of_tables(tables: Mapping[str, Any]) -> str:
    """Return the digest of the profile that a certificate states.

    Raises UsageError where it is none.
    """
    return profile_digest(profile_of(tables, shown="certificate.json"))


def _stated(table: Table) -> dict[str, Any]:
    """Return the keys of a table that differ from their defaults, as plain values."""
    keys = fields(table)  # type: ignore[arg-type]  # every table is a dataclass
    values = {key.name: (getattr(table, key.name), _default(key)) for key in keys}
    return {name: _plain(value) for name, (value, default) in values.items() if value != default}


def _default(key: Field[Any]) -> Any:
    return key.default if key.default_factory is MISSING else key.default_factory()


def _plain(value: Any) -> Any:
    if isinstance(value, Table):
        return _stated(value)
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value
