"""torch's optimizers without their decorators, which are meant for torch.compile.

The first decorated call imports that compiler, which takes more than a second before the first round; the trainer
compiles networks at most.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

DECORATED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def plain(make: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    """What makes the same optimizer of the same parameters, its methods as they were written.

    make: a class of torch.optim's, or a functools.partial of one; whatever else makes an optimizer stays as it is.
    """
    partial = make if isinstance(make, functools.partial) else functools.partial(make)
    kind = partial.func
    if not (isinstance(kind, type) and issubclass(kind, Optimizer)):
        return make
    methods: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in DECORATED}
    methods["step"] = torch.no_grad()(inspect.unwrap(kind.step))  # the decorator's other task
    return functools.partial(type(kind.__name__, (kind,), methods), *partial.args, **partial.keywords)
