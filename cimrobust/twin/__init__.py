"""The torch twin: a differentiable program that computes what a normalised network computes.

Enters: a normalised model. Leaves: a function of weights and inputs in torch, operator by operator,
and the
converters behind it, which are registered with onnx2torch too.

Read first: `to_torch.py`.
"""
