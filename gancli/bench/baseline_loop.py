"""The loop that everybody copies: what `gan bench speed` compares `gan train` with, and nothing else uses.

Networks, batch, rates, flips and n_critic are those of the config. All else is as it stands in tutorials: a DataLoader
with two workers, Pillow, ToTensor and Normalize; cross-entropy on a sigmoid; a forward of G for each of D's moves and
another for its own; in G's move a backward through D whose gradients by D's weights are thrown away; Adam as it comes;
`.item()` after every move; no average of the weights.
"""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from gancli.bench.timing import Way
from gancli.config import build, compose
from gancli.data.classes import one_hot
from gancli.data.dataset import ImageDataset
from gancli.images import to_pil
from gancli.losses.adversarial import Hinge, NonSaturating, Wasserstein
from gancli.losses.penalties import GradientPenalty
from gancli.runtime.device import choose_device

bce, relu = nn.BCELoss(), nn.ReLU()
# What D and what G minimises: of D's outputs on real and made images, and on made ones alone.
LOSSES: dict[type, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    NonSaturating: (
        lambda real, fake: bce(real.sigmoid(), torch.ones_like(real)) + bce(fake.sigmoid(), torch.zeros_like(fake)),
        lambda fake: bce(fake.sigmoid(), torch.ones_like(fake)),
    ),
    Hinge: (lambda real, fake: relu(1 - real).mean() + relu(1 + fake).mean(), lambda fake: -fake.mean()),
    Wasserstein: (lambda real, fake: fake.mean() - real.mean(), lambda fake: -fake.mean()),
}


class Plain(Way):
    """Such a loop for the model of these overrides, G and D of which learn of noise, classes or small pictures."""

    def __init__(self, overrides: list[str]):
        cfg = compose(overrides)
        self.device = device = choose_device(cfg.device)
        if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
            self.precision = "tf32"  # PyTorch's default for convolutions, which are nearly all of the work
        self.data: Pictures | Crops
        if "path" in cfg.data:
            self.data = Crops(cfg)
        else:
            source = build(cfg.data.source)
            cfg.data.update(size=source.size, channels=source.channels, classes=source.classes)
            self.data = Pictures(source, cfg.data.flip)
        torch.manual_seed(cfg.seed)
        self.objective = objective = build(cfg.model.objective)
        self.G, self.D = objective.G.to(device), objective.D.to(device)
        self.content = objective.content.to(device) if hasattr(objective, "content") else None
        self.d_loss, self.g_loss = LOSSES[type(objective.loss)]
        options: dict[str, Any] = {"lr": cfg.model.lr, "betas": [float(beta) for beta in cfg.model.betas]}
        self.g_optimizer = torch.optim.Adam(self.G.parameters(), **options)
        self.d_optimizer = torch.optim.Adam(self.D.parameters(), **options)
        self.batch, self.classes = cfg.data.batch_size, cfg.model.classes
        self.images = self.batch * objective.n_critic

    def rounds(self) -> Generator[None, None, None]:
        """Closed, it ends the loader's workers, too, which would go on filling their queue in another's turn."""
        moves = 0
        while True:
            for x, known in DataLoader(self.data, self.batch, shuffle=True, num_workers=2, drop_last=True):
                x, known = x.to(self.device), known.to(self.device)
                c = known if known.dim() == 4 else one_hot(known, self.classes)
                self.d_move(x, c)
                moves += 1
                if moves % self.objective.n_critic == 0:
                    self.g_move(x, c)
                    yield

    def noise(self, c: Tensor) -> Tensor:
        return torch.randn(len(c), self.G.z_dim, device=self.device)

    def d_move(self, x: Tensor, c: Tensor) -> None:
        self.D.zero_grad()
        made = self.G(self.noise(c), c).detach()
        loss = self.d_loss(self.D(x, c).logits, self.D(made, c).logits)
        if isinstance(self.objective.penalty, GradientPenalty):
            loss = loss + self.objective.penalty.weight_at(0, 0.0) * self.gradient_penalty(x, made, c)
        loss.backward()
        self.d_optimizer.step()
        loss.item()

    def g_move(self, x: Tensor, c: Tensor) -> None:
        self.G.zero_grad()
        made = self.G(self.noise(c), c)
        loss = self.g_loss(self.D(made, c).logits)
        if self.content is not None:
            loss = self.content(made, x) + self.objective.adversarial * loss
        loss.backward()
        self.g_optimizer.step()
        loss.item()

    def gradient_penalty(self, x: Tensor, made: Tensor, c: Tensor) -> Tensor:
        share = torch.rand(len(x), 1, 1, 1, device=self.device)
        mixed = (share * x + (1 - share) * made).requires_grad_()
        outputs = self.D(mixed, c).logits
        (slope,) = torch.autograd.grad(outputs, mixed, torch.ones_like(outputs), create_graph=True, retain_graph=True)
        return ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()


def to_tensor(channels: int) -> transforms.Compose:
    """A picture to a float tensor (C, H, W) in [-1, 1]."""
    middle = (0.5,) * channels
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(middle, middle)])


class Pictures(Dataset):
    """What torchvision's data sets do for each item: an array to a picture to a tensor, and its class."""

    def __init__(self, data: ImageDataset, flip: bool):
        self.arrays, self.labels = data.images.permute(0, 2, 3, 1).contiguous().numpy(), data.labels.tolist()
        flips = [transforms.RandomHorizontalFlip()] if flip else []
        self.transform = transforms.Compose([*flips, to_tensor(data.channels)])

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(to_pil(self.arrays[i])), self.labels[i]


class Crops(Dataset):
    """A random crop of a photograph, whose file is opened for each, and the small picture to make it of."""

    def __init__(self, cfg: Any):
        size, files = cfg.data.size, sorted(Path(cfg.data.path).iterdir())
        with Image.open(files[0]) as first:
            fits = (first.width // size) * (first.height // size)
        # As many as fit side by side: with one of each photograph an epoch, and its workers, would soon be over.
        self.files, self.mode = files * fits, "L" if cfg.data.channels == 1 else "RGB"
        flips = [transforms.RandomHorizontalFlip()] if cfg.data.flip else []
        self.crop = transforms.Compose([transforms.RandomCrop(size), *flips])
        self.smaller = transforms.Resize(size // cfg.model.scale, transforms.InterpolationMode.BICUBIC)
        self.to_tensor = to_tensor(cfg.data.channels)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        with Image.open(self.files[i]) as photograph:
            large = self.crop(photograph.convert(self.mode))
        return self.to_tensor(large), self.to_tensor(self.smaller(large))
