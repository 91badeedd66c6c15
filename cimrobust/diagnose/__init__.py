"""What explains a worst chip, and what to do about it.

Enters: an open network and the worst chip of a search. Leaves: which layers, classes, inputs and
devices are to blame, sweeps over tolerances, and the smallest sets of layers or devices to protect.

Read first: `run_diagnostics.py`.
"""
