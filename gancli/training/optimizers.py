"""torch's optimizers without the decorators that serve torch.compile.

The first decorated call imports the compiler, which takes more than a second before the first step. The trainer
compiles networks at most.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

DECORATED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def undecorated(factory: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    """Return a factory of the same optimizer with undecorated methods.

    Args:
        factory: a class of torch.optim or a functools.partial of one; anything else is returned as it is.
    """
    partial = factory if isinstance(factory, functools.partial) else functools.partial(factory)
    optimizer = partial.func
    if not (isinstance(optimizer, type) and issubclass(optimizer, Optimizer)):
        return factory
    methods: dict[str, Any] = {name: inspect.unwrap(getattr(optimizer, name)) for name in DECORATED}
    methods["step"] = torch.no_grad()(inspect.unwrap(optimizer.step))  # the decorator disables gradients too
    return functools.partial(type(optimizer.__name__, (optimizer,), methods), *partial.args, **partial.keywords)
