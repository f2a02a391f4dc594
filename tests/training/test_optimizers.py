"""Optimizers without what torch adds to each step."""

import pytest
import torch

from gancli.training.optimizers import undecorated


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "SGD"])
def test_optimizers_equal_those_of_torch_to_the_bit(name):
    """Over steps, and after each has loaded the state of the other."""
    original, options = getattr(torch.optim, name), {"lr": 1e-2, **({"fused": True} if name.startswith("Adam") else {})}
    start = torch.randn(5, 3)
    theirs, ours = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = [original([theirs], **options), undecorated(original)([ours], **options)]
    for step in range(6):
        if step == 3:
            states = [optimizer.state_dict() for optimizer in optimizers]
            optimizers = [original([theirs], **options), undecorated(original)([ours], **options)]
            for optimizer, state in zip(optimizers, reversed(states)):
                optimizer.load_state_dict(state)
        for optimizer, x in zip(optimizers, (theirs, ours)):
            optimizer.zero_grad()
            (x**4).sum().backward()
            optimizer.step()
        assert torch.equal(theirs, ours)
    assert type(optimizers[1]).__name__ == name and isinstance(optimizers[1], original)
