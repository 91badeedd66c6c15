"""One attack, short or long, on a part of a network: what every diagnostic searches with.

Enters: an open network, a tolerance box, and which samples, layers or devices take part.
Leaves: the worst pattern found in it, with its score.

Read first: `attack.py`.
"""
