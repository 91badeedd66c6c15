"""What all blocks of a certificate are made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Word = Literal["PASS_CERTIFIED", "PASS_STATISTICAL", "FAIL", "INCONCLUSIVE"]
Status = Literal["met", "refuted", "open"]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Block(BaseModel):
    """Base of all blocks: no unknown fields, no NaN, no infinity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
