"""vegans: the example of its README, VanillaGAN with the networks that it has for MNIST."""

from typing import Any

import torch
from adapter import Batches, Loader, Task
from vegans.GAN import VanillaGAN
from vegans.utils.loading import MNISTLoader


class OldBatches(Batches):
    """Batches whose iterator has the method next(), which PyTorch's had when vegans was written."""

    def next(self) -> Any:
        return next(self.batches)  # fit() looks at two batches before it trains: neither clock nor step


class OldLoader(Loader):
    def __iter__(self) -> OldBatches:  # type: ignore[override]
        return OldBatches(self.task, super().__iter__().batches)


task = Task()
shape, z_dim, batch_size = (task.channels, 32, 32), 64, 32
networks = MNISTLoader()
gan = VanillaGAN(
    generator=networks.load_generator(x_dim=shape, z_dim=z_dim, y_dim=None),
    adversary=networks.load_adversary(x_dim=shape, y_dim=None),
    z_dim=z_dim,
    x_dim=shape,
    folder=None,
)
loader = OldLoader(task, task.loader(batch_size, low=0.0, with_labels=False).dataset, batch_size)
task.train(lambda: gan.fit(loader, epochs=10**6, batch_size=batch_size))
gan.eval()  # as fit() does at its end
task.write(lambda n: torch.from_numpy(gan.generate(n=n)), low=0.0)
