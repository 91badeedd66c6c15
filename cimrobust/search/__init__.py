"""The search for the worst chip of the tolerance box.

Enters: an open network and its placement. Leaves: the worst deviation pattern that was found,
replayed in onnxruntime, with the score of every member. A search proves nothing about chips that it
did not try.

Read first: `ensemble.py`.
"""
