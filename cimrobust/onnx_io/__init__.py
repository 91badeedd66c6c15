"""ONNX files: loading, normalising, lowering, scanning, rewriting, saving.

Enters: a model file that nobody vouches for. Leaves: a `Network` of standard operators, the layers
that may be stored in crossbars, and the deployed model as a file.

Read first: `load_network.py`.
"""
