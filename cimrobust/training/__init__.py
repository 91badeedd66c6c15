"""Robust networks out of fragile ones.

Enters: a network, its training data, a device profile and a method. Leaves: weights of the best
epoch, written into the same ONNX graph. `methods` has one way of training a file.

Read first: `loop.py`.
"""
