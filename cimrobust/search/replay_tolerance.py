"""How far two runs of one chip may lie apart.

Both runs are of the same weights with the same exact integer products; only batch sizes differ. In
networks that round their activations a float32 sum on the edge moves a whole level, and many
samples of a broken network sit on an edge.
"""

from __future__ import annotations

_FLOAT = 0.01
_ROUNDED = 0.02
# Whatever their share, so many decisions may differ.
_DECISIONS = 2


def allowed_difference(
    score: float, *, num_samples: int, is_share: bool, rounds: bool = True
) -> float:
    """Return how far the score of a model file may lie from the engine's for the same chip.

    Args:
        score: The engine's score.
        num_samples: Decisions that it counts.
        is_share: Whether it is a share of decisions, not an error.
        rounds: Whether the network rounds its activations; where it is not known, it may.
    """
    share = _ROUNDED if rounds else _FLOAT
    return max(share, _DECISIONS / max(1, num_samples)) if is_share else share * abs(score)
