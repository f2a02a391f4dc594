"""How many modes of the data a generator finds, and how evenly: for data whose modes can be told apart.

Stacked MNIST has 1,000 of them, told apart by a classifier of digits; those of the plane are counted by
`gancli.data.synthetic.mode_counts`. Metz et al. 2016, section 3.3.1, https://arxiv.org/abs/1611.02163.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gancli.data.builtin import mnist
from gancli.images import to_float
from gancli.runtime.seeding import derive_seed

BATCH, RATE = 128, 4e-3  # of the classifier's training
CHUNK = 1000  # images classified at a time


class DigitClassifier(nn.Module):
    """28x28 - 16x14x14 - 32x7x7 - 128 - 10 logits: strided convolutions, batch norm, ReLU, dropout.

    x (N, 1, 28, 28) in [-1, 1] to logits (N, 10).
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(16), nn.ReLU(True),
            nn.Conv2d(16, 32, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(True),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 7 * 7, 128), nn.ReLU(True), nn.Linear(128, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def train_digit_classifier(root: str, seed: int = 0, epochs: int = 3) -> tuple[DigitClassifier, float]:
    """A classifier trained on MNIST's 60,000 digits, in eval mode, and its accuracy on the 10,000 of the test split.

    On the CPU, in 25 seconds of one core; 99.20, 99.16, 99.25 and 99.13 % for the seeds 0 to 3. Same seed, same
    classifier: torch's own generator is neither read nor moved. ValueError where MNIST is not in the folder `root` and
    cannot be downloaded.
    """
    train, test = mnist(root, 28, 1), mnist(root, 28, 1, "test")
    n = len(train) // BATCH * BATCH
    if not n or epochs < 1:
        raise ValueError(
            f"a classifier needs {BATCH} digits and an epoch or more, but {len(train)} digits and epochs={epochs} "
            "were given: put the whole of MNIST there and give epochs=3"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "digit classifier"))
        classifier = DigitClassifier()
        optimizer = torch.optim.AdamW(classifier.parameters(), fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * (n // BATCH))
        for _ in range(epochs):
            for chosen in torch.randperm(len(train))[:n].split(BATCH):
                loss = cross_entropy(classifier(to_float(train.images[chosen])), train.labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    classifier.eval().requires_grad_(False)
    return classifier, float((classify(classifier, test.images) == test.labels).double().mean())


@torch.no_grad()
def classify(classifier: nn.Module, images: Tensor) -> Tensor:
    """The digit of each image, int64 (N,) on the CPU. images: (N, 1, 28, 28), float in [-1, 1] or uint8, anywhere."""
    place = next(classifier.parameters()).device
    digits = [classifier(to_float(part.to(place))).argmax(1).cpu() for part in images.split(CHUNK)]
    return torch.cat([torch.empty(0, dtype=torch.int64), *digits])


def stacked_modes(classifier: nn.Module, images: Tensor) -> Tensor:
    """The mode of each stacked image: 100 red + 10 green + blue digit, int64 (N,) in [0, 1000).

    images: (N, 3, 28, 28), float in [-1, 1] or uint8. What is no digit is counted as the one it is taken for.
    """
    if tuple(images.shape[1:]) != (3, 28, 28):
        raise ValueError(
            f"stacked digits have the shape (N, 3, 28, 28), but {tuple(images.shape)} was given: train with "
            "data=stacked_mnist data.size=28"
        )
    red, green, blue = (classify(classifier, images[:, k : k + 1]) for k in range(3))
    return 100 * red + 10 * green + blue


def coverage(modes: Tensor, total: int) -> tuple[int, float]:
    """How many of `total` modes occur, and the reverse KL divergence from the uniform distribution, in nats.

    modes: int64 (N,) in [0, total), one of each sample. Reverse is KL(generated || data), the generated samples'
    frequencies first and the data's, 1/total each, second, as in Srivastava et al. 2017, section 4,
    https://arxiv.org/abs/1705.07761, and in Lin et al. 2018, section 4, https://arxiv.org/abs/1712.04086: 0 where
    all modes are equally frequent, ln(total) where there is one. N samples of the data itself give about
    (total - 1) / 2N, not 0. Of no samples it is nan.
    """
    frequency = modes.bincount(minlength=total).double() / len(modes)
    assert len(frequency) == total, (len(frequency), total)
    if not len(modes):
        return 0, math.nan
    found = frequency[frequency > 0]
    return len(found), max(0.0, float((found * (found * total).log()).sum()))
