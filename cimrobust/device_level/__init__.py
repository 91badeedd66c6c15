"""What single devices can do: stuck ones, and those worth verifying more tightly.

Enters: an open network, its placement and its profile. Leaves: the worst few stuck devices,
rankings of all devices, and what a tighter write-verify of a share of them gains.

Read first: `stuck.py`.
"""
