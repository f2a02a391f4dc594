"""Outputs of discriminators, in float32 even under autocast."""

from typing import Any, NamedTuple

from torch import Tensor, nn


class DiscriminatorOutputs(NamedTuple):
    """Outputs of D for a batch of N images; None stands for what an architecture does not have.

    Attributes:
        logits: (N,), or (N, H', W') of a patch discriminator; high for images that look real.
        features: Input of D's last layer, (N, F) or (N, F, H', W').
        class_logits: (N, classes).
        decoder_inputs: What a D with decoders reconstructs its input from; see networks/fastgan.py.
    """

    logits: Tensor
    features: Tensor | None = None
    class_logits: Tensor | None = None
    decoder_inputs: Any = None


def keep_float32(D: nn.Module) -> None:
    """Let D, and each D inside it, return `DiscriminatorOutputs` of float32 or wider.

    Autocast computes in bfloat16, and a loss of 16 bits would be rounded to its third digit. A forward hook acts on
    every call, so no loss sees narrower outputs.
    """
    D.register_forward_hook(_wrap)
    for module in (*D.children(), D):
        module.register_forward_hook(_widen)


def _wrap(D: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Accept a D that returns its logits alone."""
    return DiscriminatorOutputs(outputs) if isinstance(outputs, Tensor) else outputs


def _widen(D: nn.Module, inputs: Any, outputs: Any) -> Any:
    if not isinstance(outputs, DiscriminatorOutputs):
        return outputs
    narrow = (isinstance(t, Tensor) and t.itemsize < 4 for t in outputs)
    return DiscriminatorOutputs._make(t.float() if is_narrow else t for t, is_narrow in zip(outputs, narrow))
