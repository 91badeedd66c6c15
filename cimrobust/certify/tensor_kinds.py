"""Kinds of tensors, as bounds see them."""

from __future__ import annotations

#: Known, stored weights (moved at most), and what depends on samples or on both.
KNOWN, WEIGHT, ACTIVE = "known", "weight", "active"
