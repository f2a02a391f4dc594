"""TorchGAN: its DCGAN with the losses, widths and learning rates of its first tutorial."""

import torch
from adapter import Task
from torch.optim import Adam
from torchgan.losses import LeastSquaresDiscriminatorLoss, LeastSquaresGeneratorLoss
from torchgan.models import DCGANDiscriminator, DCGANGenerator
from torchgan.trainer import Trainer

task = Task()
width, betas = 32, (0.5, 0.999)
networks = {
    "generator": {
        "name": DCGANGenerator,
        "args": {"encoding_dims": 100, "out_channels": task.channels, "step_channels": width},
        "optimizer": {"name": Adam, "args": {"lr": 1e-4, "betas": betas}},
    },
    "discriminator": {
        "name": DCGANDiscriminator,
        "args": {"in_channels": task.channels, "step_channels": width},
        "optimizer": {"name": Adam, "args": {"lr": 3e-4, "betas": betas}},
    },
}
losses = [LeastSquaresGeneratorLoss(), LeastSquaresDiscriminatorLoss()]
device = torch.device("cpu")
trainer = Trainer(networks, losses, sample_size=64, epochs=10**6, device=device)
task.train(lambda: trainer(task.loader(64)))
G = trainer.generator.eval()  # as the trainer does before it samples
task.write(lambda n: G(*G.sampler(n, device)))
