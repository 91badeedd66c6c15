"""Proofs: what every chip of the tolerance box does right.

Enters: an open network and its placement. Leaves: which decisions no chip can change, and up to
which tolerance; a sound lower bound of the accuracy, or the reason why there is none.

Read first: `bound_summary.py`.
"""
