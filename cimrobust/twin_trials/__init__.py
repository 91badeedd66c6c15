"""Drawn chips scored by the torch twin on a device, and confirmed by onnxruntime.

Enters: an open network and the percentiles that are reported. Leaves: the table of drawn chips,
whose decisive scores are onnxruntime's, and what a reader has to know of the others.

Read first: `confirmed_trials.py`.
"""
