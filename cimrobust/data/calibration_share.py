"""How many samples of a file are set apart to calibrate converters."""

from __future__ import annotations

#: Samples that ranges are taken from.
CALIBRATION_SAMPLES = 256
#: Most of a file that is set apart.
LARGEST_SHARE = 0.25


def set_apart(num_counted: int) -> int:
    """Return how many samples of the end of a file are for calibration.

    Args:
        num_counted: Samples of the file, without those whose label is not counted.
    """
    return min(CALIBRATION_SAMPLES, int(LARGEST_SHARE * num_counted))
