"""How far largest certified boxes are searched for."""

from __future__ import annotations

#: Largest boxes of single samples are searched for from the smallest of the curve up to four times
#: the stated one: powers of two of its size.
OCTAVES = (-8, 2)
#: Sizes an octave of the grid that they are searched on, by effort.
STEPS = {"quick": 4, "standard": 8, "thorough": 16}
