"""Data sets: arrays, preprocessing, labels, and how an output becomes a decision and a score.

Enters: a data description or a bare data file, and the outputs of a model. Leaves: batches for the
inputs of the graph, and a `Task` that scores outputs. What has two readings is refused, never
guessed.

Read first: `load_dataset.py`.
"""
