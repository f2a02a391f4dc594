"""Generative adversarial networks: Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from gancli.losses.adversarial import Loss, Wasserstein
from gancli.losses.drifting import drifting
from gancli.losses.penalties import DRAGAN, Discriminated, GradientPenalty, NoPenalty, Penalty
from gancli.networks.outputs import DiscriminatorOutputs, keep_float32
from gancli.objectives.base import Fakes, Objective, Terms, Update, sample_noise
from gancli.runtime.checks import check_number
from gancli.transforms.augment import AdaptiveAugment, NoAugment


@dataclass(eq=False)
class GAN(Objective):
    """Adversarial objective with one generator and one discriminator.

    A step updates D n_critic times, then G once. A variant overrides `generator_terms`, `discriminator_terms` or
    `generate`.

    Attributes:
        loss: Adversarial loss of D's logits.
        penalty: Regulariser of D.
        augment: Transform of every image, real or generated, before D.
        packing: Images that D discriminates together, as channels: Lin et al. 2018, https://arxiv.org/abs/1712.04086.
        reuse_fakes: G's update trains on the fakes of D's last update, which saves a forward pass of G: a tenth of the
            work of a step with n_critic=1. (Paper, algorithm 1: fresh noise for each.)
        drift: Weight of G's drifting term, see losses/drifting.py; 0: none.
    """

    D: Any
    loss: Loss
    penalty: Penalty = field(default_factory=NoPenalty)
    augment: Any = field(default_factory=NoAugment)
    n_critic: int = 1
    packing: int = 1
    reuse_fakes: bool = True
    drift: float = 0.0

    def __post_init__(self) -> None:
        check_number("model.n_critic", self.n_critic, 1)
        check_number("model.packing", self.packing, 1)
        check_number("model.drift", self.drift, 0, example=1)
        if isinstance(self.augment, AdaptiveAugment) and self.loss.threshold is None:
            raise ValueError(
                "model/augment=ada needs to know how often D takes a real image for real, which this loss does not "
                "define; type model/augment=diffaugment, or model/loss=non_saturating, hinge or least_squares"
            )
        keep_float32(self.D)

    @property
    def double_backward(self) -> bool:
        return self.penalty.double_backward

    @property
    def whole_batch(self) -> str:
        return "model.drift compares all images of a batch (model.drift=0 leaves it out)" if self.drift else ""

    def updates(self, step: int, progress: float) -> list[Update]:
        loss = partial(self.discriminator_loss, penalty_weight=self.penalty.weight_at(step, progress))
        critic = Update("D", loss, partial(self.penalty.after_step, self.D))
        last = critic._replace(loss=partial(loss, keep_fakes=True)) if self.reuse_fakes else critic
        return [*[critic] * (self.n_critic - 1), last, Update("G", self.generator_loss)]

    def discriminator_loss(
        self, x: Tensor, c: Tensor, fakes: Fakes | None = None, penalty_weight: float = 0.0, keep_fakes: bool = False
    ) -> tuple[Terms, Fakes | None]:
        """Return D's terms, and with `keep_fakes` the fakes with G's graph for G's update."""
        c = self.condition(x, c)
        with torch.set_grad_enabled(keep_fakes):
            fake = self.generate(x, c)
        terms = self.discriminator_terms(x, c, fake, penalty_weight)
        return terms, Fakes(x, c, fake) if keep_fakes else None

    def generator_loss(
        self, x: Tensor, c: Tensor, fakes: Fakes | None = None, **settings: Any
    ) -> tuple[Terms, Fakes | None]:
        """Return G's terms for the fakes of D's update, or for new ones."""
        if fakes is None:
            c = self.condition(x, c)
            fakes = Fakes(x, c, self.generate(x, c))
        return self.generator_terms(*fakes, **settings), None

    def generate(self, x: Tensor, c: Tensor) -> Any:
        """Return fake images (N, C, H, W) of condition c."""
        return self.G(sample_noise(self.G, c), c)

    def discriminate(self, x: Tensor, c: Tensor, D: Callable[..., DiscriminatorOutputs] | None = None) -> Any:
        """Return D's outputs for images x (N, C, H, W), augmented and packed; D defaults to the trained one."""
        x, c = self.augment.pair(x, c)
        return (D or self.D)(self.packed(x), self.packed(c))

    def discriminator_terms(self, x: Tensor, c: Tensor, fake: Any, penalty_weight: float) -> Terms:
        """Return D's terms for real images x and fakes of the same condition."""
        gradients = self.penalty.gradients if penalty_weight else ()
        x, fake = x.detach().requires_grad_("real" in gradients), fake.detach().requires_grad_("fake" in gradients)
        real_outputs, fake_outputs = self.discriminate(x, c), self.discriminate(fake, c)
        terms = self.adversarial_terms(real_outputs, fake_outputs, c)
        real, fake = Discriminated(x, real_outputs.logits), Discriminated(fake, fake_outputs.logits)
        if penalty_weight:
            terms["D/penalty"] = penalty_weight * self.penalty(
                lambda images, c: self.discriminate(images, c).logits, real, fake, c
            )
        with torch.no_grad():
            if isinstance(self.augment, AdaptiveAugment):
                assert self.loss.threshold is not None  # refused above
                self.augment.observe(real.logits - self.loss.threshold, len(x))
                terms["augment_p"] = self.augment.p.clone()
            return terms | self.loss.watch(real.logits, fake.logits)

    def adversarial_terms(self, real: DiscriminatorOutputs, fake: DiscriminatorOutputs, c: Tensor) -> Terms:
        """Return D's terms apart from its penalty."""
        return {"D/adversarial": self.loss.discriminator(real.logits, fake.logits)}

    def generator_terms(self, x: Tensor, c: Tensor, fake: Any) -> Terms:
        """Return G's terms for fakes, given the real images x of the same condition."""
        terms = {"G/adversarial": self.adversarial_loss(x, c, fake)}
        return terms | ({"G/drifting": self.drift * drifting(fake, x, c)} if self.drift else {})

    def adversarial_loss(self, x: Tensor, c: Tensor, fake: Tensor) -> Tensor:
        """Return G's adversarial loss."""
        return self.loss.generator(self.discriminate(fake, c).logits, self.real_logits(x, c))

    @torch.no_grad()
    def real_logits(self, x: Tensor, c: Tensor) -> Tensor | None:
        """Return D's logits for real images if G's loss compares with them."""
        return self.discriminate(x, c).logits if self.loss.paired else None

    def packed(self, t: Tensor) -> Tensor:
        """Return (N, C, ...) as (N / packing, packing * C, ...): neighbours of the batch become channels."""
        if len(t) % self.packing:
            fits = len(t) // self.packing * self.packing
            raise ValueError(
                f"model.packing={self.packing} does not divide the batch of {len(t)}; type "
                f"data.batch_size={max(fits, self.packing)}"
            )
        return t.unflatten(0, (-1, self.packing)).flatten(1, 2) if self.packing > 1 else t

    def state_dict(self) -> dict[str, Any]:
        return {"augment": self.augment.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.augment.load_state_dict(state["augment"])


def warnings_about(objective: Objective, model: dict[str, Any]) -> list[str]:
    """Return a sentence for each setting that is allowed but seldom intended; model: of the run's config."""
    if not isinstance(objective, GAN):
        return []
    layers = list(objective.D.modules())
    has_batch_norm = any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    # G's norm, where one key is for both, is not in the way of D's penalty.
    norm = "model.D.norm=none" if "norm" in model["G"] else "model.norm=none"
    warnings = []
    if has_batch_norm and isinstance(objective.penalty, GradientPenalty | DRAGAN):
        warnings.append(
            f"D has batch norm, which mixes the images of a batch, but the penalty is defined per image; type {norm}"
        )
    unbounded = type(objective.penalty) is NoPenalty and not any(map(is_parametrized, layers))  # by spectral norm
    if unbounded and isinstance(objective.loss, Wasserstein):
        penalty = f"model/penalty=gp{f' {norm}' if has_batch_norm else ''}, or " if "penalty" in model else ""
        warnings.append(
            f"loss=wasserstein needs a D whose gradient is bounded, and nothing bounds it; type {penalty}"
            "model/loss=least_squares"
        )
    return warnings
