"""What the folder of a shard states of itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cimrobust.counts import MAX_TRIALS
from cimrobust.records import Record

_Number = Annotated[int, Field(ge=1, le=MAX_TRIALS)]


class ShardManifest(Record):
    """One share of the trials of a run, written when all of them are done."""

    format: str
    """Name and version of this format."""
    shard: _Number
    """Number of this share, from 1."""
    of: _Number
    """Shares that the trials were divided into."""
    trials: _Number
    """Trials of the whole run."""
    identity: dict[str, str]
    """What the scores depend on, part by part."""
    trials_sha256: str
    """SHA-256 digest of the file of trials."""
