"""ONNX operators as torch functions.

Enters: a node of a normalised graph. Leaves: its torch form, found by operator in the registry. One file
holds one family of operators.

Read first: `registry.py`.
"""
