"""A network run with given programmed weights.

Enters: a network, data and a device profile. Leaves: outputs and scores, of onnxruntime or, where
the profile has converters or read noise, of the crossbar kernel; checks that both are alive and
right.

Read first: `open.py`.
"""
