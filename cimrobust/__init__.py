"""cimrobust: what a neural network does on an imperfect analog chip, in the worst case."""

__version__ = "0.1.0"
