"""The torch twin: a differentiable program that computes what a normalised network computes.

Enters: a normalised model. Leaves: a function of weights and inputs in torch, operator by operator,
and the converters behind it. Importing the package adds them to onnx2torch's table.

Read first: `to_torch.py`.
"""

from cimrobust.twin import onnx2torch_converters  # noqa: F401
