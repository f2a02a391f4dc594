"""The training loop of tutorials, with which `gan bench speed` compares `gan train`.

Networks, batch size, learning rate, flips and n_critic come from the config. Everything else is as in tutorials: a
DataLoader with two workers, Pillow, ToTensor and Normalize; cross-entropy on a sigmoid; a forward pass of G for every
update of D and of G; in G's update a backward pass through D whose weight gradients are discarded; Adam's defaults;
`.item()` after every update; no EMA.
"""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from gancli.bench.timing import TimedLoop
from gancli.config import build, compose
from gancli.data.classes import one_hot
from gancli.data.dataset import ImageDataset
from gancli.data.decoder import open_image
from gancli.images import to_pil
from gancli.losses.adversarial import Hinge, NonSaturating, Wasserstein
from gancli.losses.penalties import GradientPenalty
from gancli.runtime.device import choose_device

bce, relu = nn.BCELoss(), nn.ReLU()
# Losses of D, from its logits on real and fake images, and of G, from D's logits on fakes.
LOSSES: dict[type, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    NonSaturating: (
        lambda real, fake: bce(real.sigmoid(), torch.ones_like(real)) + bce(fake.sigmoid(), torch.zeros_like(fake)),
        lambda fake: bce(fake.sigmoid(), torch.ones_like(fake)),
    ),
    Hinge: (lambda real, fake: relu(1 - real).mean() + relu(1 + fake).mean(), lambda fake: -fake.mean()),
    Wasserstein: (lambda real, fake: fake.mean() - real.mean(), lambda fake: -fake.mean()),
}


class BaselineLoop(TimedLoop):
    """The tutorial loop for the model of these overrides: noise, classes or small images to images."""

    def __init__(self, overrides: list[str]):
        cfg = compose(overrides)
        self.device = device = choose_device(cfg.device)
        if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
            self.precision = "tf32"  # PyTorch's default for convolutions, which do nearly all of the work
        self.data: StoredImages | Crops
        if "path" in cfg.data:
            self.data = Crops(cfg)
        else:
            source = build(cfg.data.source)
            cfg.data.update(size=source.size, channels=source.channels, classes=source.classes)
            self.data = StoredImages(source, cfg.data.flip)
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

    def steps(self) -> Generator[None, None, None]:
        """Run steps; closing ends the loader's workers, which would fill their queue during another loop's turn."""
        updates = 0
        while True:
            for x, condition in DataLoader(self.data, self.batch, shuffle=True, num_workers=2, drop_last=True):
                x, condition = x.to(self.device), condition.to(self.device)
                c = condition if condition.dim() == 4 else one_hot(condition, self.classes)
                self.update_discriminator(x, c)
                updates += 1
                if updates % self.objective.n_critic == 0:
                    self.update_generator(x, c)
                    yield

    def noise(self, c: Tensor) -> Tensor:
        return torch.randn(len(c), self.G.z_dim, device=self.device)

    def update_discriminator(self, x: Tensor, c: Tensor) -> None:
        self.D.zero_grad()
        fake = self.G(self.noise(c), c).detach()
        loss = self.d_loss(self.D(x, c).logits, self.D(fake, c).logits)
        if isinstance(self.objective.penalty, GradientPenalty):
            loss = loss + self.objective.penalty.weight_at(0, 0.0) * self.gradient_penalty(x, fake, c)
        loss.backward()
        self.d_optimizer.step()
        loss.item()

    def update_generator(self, x: Tensor, c: Tensor) -> None:
        self.G.zero_grad()
        fake = self.G(self.noise(c), c)
        loss = self.g_loss(self.D(fake, c).logits)
        if self.content is not None:
            loss = self.content(fake, x) + self.objective.adversarial * loss
        loss.backward()
        self.g_optimizer.step()
        loss.item()

    def gradient_penalty(self, x: Tensor, fake: Tensor, c: Tensor) -> Tensor:
        t = torch.rand(len(x), 1, 1, 1, device=self.device)
        mixed = (t * x + (1 - t) * fake).requires_grad_()
        outputs = self.D(mixed, c).logits
        (gradient,) = torch.autograd.grad(
            outputs, mixed, torch.ones_like(outputs), create_graph=True, retain_graph=True
        )
        return ((gradient.flatten(1).norm(2, dim=1) - 1) ** 2).mean()


def to_tensor(channels: int) -> transforms.Compose:
    """Return the transform of a PIL image to a float tensor (C, H, W) in [-1, 1]."""
    half = (0.5,) * channels
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(half, half)])


class StoredImages(Dataset):
    """An image and its class per item, through a PIL image, as torchvision's data sets do it."""

    def __init__(self, data: ImageDataset, flip: bool):
        self.arrays, self.labels = data.images.permute(0, 2, 3, 1).contiguous().numpy(), data.labels.tolist()
        flips = [transforms.RandomHorizontalFlip()] if flip else []
        self.transform = transforms.Compose([*flips, to_tensor(data.channels)])

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(to_pil(self.arrays[i])), self.labels[i]


class Crops(Dataset):
    """A random crop of an image file, which is opened for each item, and the small image to enlarge."""

    def __init__(self, cfg: Any):
        size, files = cfg.data.size, sorted(Path(cfg.data.path).iterdir())
        with open_image(files[0]) as first:
            crops = (first.width // size) * (first.height // size)
        # With one crop per file an epoch, after which the workers are started anew, would be too short.
        self.files, self.mode = files * crops, "L" if cfg.data.channels == 1 else "RGB"
        flips = [transforms.RandomHorizontalFlip()] if cfg.data.flip else []
        self.crop = transforms.Compose([transforms.RandomCrop(size), *flips])
        self.smaller = transforms.Resize(size // cfg.model.scale, transforms.InterpolationMode.BICUBIC)
        self.to_tensor = to_tensor(cfg.data.channels)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        with open_image(self.files[i]) as image:
            large = self.crop(image.convert(self.mode))
        return self.to_tensor(large), self.to_tensor(self.smaller(large))
