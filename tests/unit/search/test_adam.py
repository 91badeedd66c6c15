"""Our Adam against torch's."""

from __future__ import annotations

import torch

from cimrobust.search.adam import Adam


def test_steps_are_those_of_torch_to_the_last_bit():
    generator = torch.Generator().manual_seed(7)
    start = [torch.randn(shape, generator=generator) for shape in ((5, 3), (40,), (2, 1, 7))]
    theirs = [tensor.clone().requires_grad_() for tensor in start]
    ours = [tensor.clone().requires_grad_() for tensor in start]
    reference, adam = torch.optim.Adam(theirs, lr=3e-3), Adam(ours, 3e-3)
    for _ in range(50):
        gradients = [torch.randn(tensor.shape, generator=generator) for tensor in start]
        for tensor, gradient in zip(theirs, gradients, strict=True):
            tensor.grad = gradient.clone()
        reference.step()
        adam.step(gradients)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
