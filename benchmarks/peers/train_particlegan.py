"""ParticleGAN: the loop of its README with its default recipe.

The package has no networks for images. These are a DCGAN of width 64 without normalization in D, and the latents are as
many as in the templates of HyperGAN, which is built on this package.
"""

from adapter import Task
from particlegan import GANTrainer, get_recipe, init
from torch import nn

task = Task()
width, z_dim = 64, 128


def up(inputs: int, outputs: int, stride: int = 2) -> list[nn.Module]:
    layer = nn.ConvTranspose2d(inputs, outputs, 4, stride, stride - 1, bias=False)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]


G = nn.Sequential(
    nn.Unflatten(1, (z_dim, 1, 1)),
    *up(z_dim, 4 * width, stride=1),
    *up(4 * width, 2 * width),
    *up(2 * width, width),
    nn.ConvTranspose2d(width, task.channels, 4, 2, 1),
    nn.Tanh(),
)
D = nn.Sequential(
    *(nn.Conv2d(task.channels, width, 4, 2, 1), nn.LeakyReLU(0.2)),
    *(nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2)),
    *(nn.Conv2d(2 * width, 4 * width, 4, 2, 1), nn.LeakyReLU(0.2)),
    nn.Conv2d(4 * width, 1, 4),
    nn.Flatten(),
)
recipe = get_recipe(total_steps=200_000, batch_size=64, z_dim=z_dim, num_particles=10_000)
init.deterministic_orthogonal_(G, seed=2 * task.seed)
init.deterministic_orthogonal_(D, seed=2 * task.seed + 1)
prior = init.deterministic_orthogonal_(recipe.make_prior())
trainer = GANTrainer(recipe, G, D, prior=prior, seed=task.seed)
loader = task.loader(recipe.batch_size, with_labels=False)


def train() -> None:
    while True:
        for real in loader:
            trainer.step(real)


task.train(train)
task.write(trainer.sample)
