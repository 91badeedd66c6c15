"""One network over write-verify tolerances.

Enters: an open network and a list of tolerances. Leaves: at each of them the worst chip found,
drawn chips, and what is proven; and the largest tolerance that is still safe.

Read first: `sweep_tolerances.py`.
"""
