"""Weights on devices, slices and tiles.

Enters: the weights of the crossbar layers and a device profile. Leaves: a `Placement`: the target
of every device, the linear read-out back to weights, and the tolerance box.

Read first: `place.py`.
"""
