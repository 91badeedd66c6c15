"""One digest for one device profile, however its file is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cimrobust.device.load_profile import profile_of
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.profile_keys import ProfileModel


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
    stated = ProfileModel.model_validate(tables, strict=True).model_dump(
        exclude_defaults=True, mode="json"
    )
    text = json.dumps(
        stated, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def digest_of_tables(tables: Mapping[str, Any]) -> str:
    """Return the digest of the profile that a certificate states.

    Raises UsageError where it is none.
    """
    return profile_digest(profile_of(tables, shown="certificate.json"))
