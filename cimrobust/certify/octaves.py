"""Tolerances at which single samples are certified."""

from __future__ import annotations

#: Largest boxes of single samples are searched for from the smallest of the curve up to four times
#: the stated one: powers of two of its size.
OCTAVES = (-8, 2)
