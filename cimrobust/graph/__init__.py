"""ONNX files: loading, normalising, lowering, scanning, rewriting, saving; and their torch twin.

Enters: a model file that nobody vouches for. Leaves: a `Network` of standard operators, the layers that
may be stored in crossbars, the deployed model, and a differentiable program that computes the same.

Read first: `load.py`.
"""
