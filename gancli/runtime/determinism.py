"""Runs that repeat to the bit; docs/explanation/determinism.md says where that holds."""

import contextlib
import os
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def deterministic(on: bool) -> Iterator[None]:
    """Within `with`, compute nothing that depends on racing threads or on their number.

    Raises:
        ValueError: PyTorch has no deterministic version of an operation.
    """
    if not on:
        yield
        return
    cudnn = torch.backends.cudnn
    before = (torch.get_num_threads(), cudnn.deterministic, cudnn.benchmark)
    # CPU threads add in an order that depends on their number.
    torch.set_num_threads(1)
    cudnn.deterministic, cudnn.benchmark = True, False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        raise ValueError(
            f"deterministic=true, but PyTorch has no deterministic {str(error).split()[0]}; type deterministic=false, "
            f"or leave out what needs it"
        ) from error
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(before[0])
        _, cudnn.deterministic, cudnn.benchmark = before
