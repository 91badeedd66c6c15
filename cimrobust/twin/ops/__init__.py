"""The converters: one file per family of operators.

Enters: a node. Leaves: a torch function of its inputs.

Read first: `converter_registry.py`.
"""
