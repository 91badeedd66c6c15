"""Chips drawn at random, and what they say of those that were not drawn.

Enters: an open network, a placement and a seed. Leaves: one row a drawn chip, percentiles with
bounds free of assumptions on their distribution, and the probability of rare failures by splitting.

Read first: `trials.py`.
"""
