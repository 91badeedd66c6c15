"""The most probable chip that fails: a first-order reliability search.

Enters: an open network and a score that a chip must reach. Leaves: the failing chip nearest to the
target in the space of the latent noise, run in onnxruntime, and the probability that it implies.

Read first: `most_probable.py`.
"""
