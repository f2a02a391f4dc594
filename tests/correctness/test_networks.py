"""Layers and networks against numpy, scipy and torchvision, and their sizes against the papers' figures."""

import numpy as np
import pytest
import scipy
import torch
from helpers import normal
from torch import nn

from gancli.losses.perceptual import LAYERS
from gancli.networks import dcgan, layers, r3gan, resnet, sr, translation, unet


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# Layer by layer from the tables and figures of the papers: inputs, outputs, side of the kernel, bias.
DCGAN_G = [(100, 1024, 4, 0), (1024, 512, 4, 0), (512, 256, 4, 0), (256, 128, 4, 0), (128, 3, 4, 1)]
DCGAN_D = [(3, 128, 4, 1), (128, 256, 4, 0), (256, 512, 4, 0), (512, 1024, 4, 0), (1024, 1, 4, 1)]
SRRESNET = [(3, 64, 9, 1), (64, 64, 3, 0), (64, 256, 3, 1), (64, 256, 3, 1), (64, 3, 9, 1)]
SRGAN_D = [(3, 64, 3, 1), (64, 64, 3, 0), (64, 128, 3, 0), (128, 128, 3, 0)]
SRGAN_D += [
    (128, 256, 3, 0),
    (256, 256, 3, 0),
    (256, 512, 3, 0),
    (512, 512, 3, 0),
    (512 * 36, 1024, 1, 1),
    (1024, 1, 1, 1),
]
SN_G = [(128, 4096, 1, 1), *[(256, 256, 3, 0)] * 6, *[(256, 256, 1, 0)] * 3, (256, 3, 3, 1)]
SN_D = [(3, 128, 3, 1), (3, 128, 1, 1), (128, 128, 1, 1), *[(128, 128, 3, 1)] * 7, (128, 1, 1, 0)]
R3_BLOCKS = [(768, 1536, 1, 1), (16, 1536, 3, 1), (1536, 768, 1, 0)] * 8
UNET = [(3, 64, 4, 1), (64, 128, 4, 0), (128, 256, 4, 0), (256, 512, 4, 0), *[(512, 512, 4, 0)] * 3, (512, 512, 4, 1)]
UNET += [
    (512, 512, 4, 0),
    *[(1024, 512, 4, 0)] * 3,
    (1024, 256, 4, 0),
    (512, 128, 4, 0),
    (256, 64, 4, 0),
    (128, 3, 4, 1),
]
PATCH70 = [(6, 64, 4, 1), (64, 128, 4, 0), (128, 256, 4, 0), (256, 512, 4, 0), (512, 1, 4, 1)]
CYCLE = [(3, 64, 7, 0), (64, 128, 3, 0), (128, 256, 3, 0), *[(256, 256, 3, 0)] * 18]
CYCLE += [(256, 128, 4, 0), (128, 64, 4, 0), (64, 3, 7, 1)]
UNET_NORMS = [128, 256, 512, 512, 512, 512, 512, 512, 512, 512, 256, 128, 64]
RADFORD, LEDIG, ISOLA = "Radford et al. 2016, figure 1", "Ledig et al. 2017, figure 4", "Isola et al. 2017, section 6.1"
MIYATO, HUANG, ZHU = "Miyato et al. 2018, table 4", "Huang et al. 2024, appendix", "Zhu et al. 2017, section 7.1"
# name: network, its convolutions, the channels of its batch norms, other parameters, source.
COUNTS = {
    "DCGAN, G at 64 pixels": (lambda: dcgan.Generator(100, 3, 64, 128), DCGAN_G, [1024, 512, 256, 128], 0, RADFORD),
    "DCGAN, D at 64 pixels": (lambda: dcgan.Discriminator(3, 64, 128), DCGAN_D, [256, 512, 1024], 0, RADFORD),
    "SRResNet x4": (
        *(sr.SRResNet, SRRESNET + [(64, 64, 3, 0)] * 32, [64] * 33),
        *(16 + 3, LEDIG),  # slopes of PReLU
    ),
    "SRGAN, D at 96 pixels": (sr.Discriminator, SRGAN_D, [64, 128, 128, 256, 256, 512, 512], 0, LEDIG),
    "SN-ResNet, G at 32 pixels": (lambda: resnet.Generator(128, 3, 32), SN_G, [256] * 7, 0, MIYATO),
    "SN-ResNet, D at 32 pixels": (lambda: resnet.Discriminator(3, 32, norm="none"), SN_D, [], 0, MIYATO),
    "R3GAN, G at 32 pixels": (
        *(lambda: r3gan.Generator(64, 3, 32, 768), [*R3_BLOCKS, (64, 768, 1, 0), (768, 3, 1, 0)], []),
        *(768 * 16, HUANG),  # the learned map of 4x4
    ),
    "R3GAN, D at 32 pixels": (
        *(lambda: r3gan.Discriminator(3, 32, 768), [*R3_BLOCKS, (3, 768, 1, 0), (768, 1, 1, 0)], []),
        *(768 * 16, HUANG),
    ),
    "Pix2Pix, U-Net at 256 pixels": (lambda: unet.UNet(3, 3), UNET, UNET_NORMS, 0, ISOLA),
    "Pix2Pix, PatchGAN of 70 pixels": (
        *(lambda: translation.PatchDiscriminator(3, 3), PATCH70, [128, 256, 512], 0, ISOLA),
    ),
    "CycleGAN, G with 9 blocks, 4x4 doublings": (
        *(lambda: translation.ResidualGenerator(3, 3, depth=9), CYCLE, [], 0, ZHU),
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name, oracle):
    build, layers_of_it, norms, others, source = COUNTS[name]
    theirs = sum(a * b * k * k + bias * b for a, b, k, bias in layers_of_it) + 2 * sum(norms) + others
    with torch.device("meta"):
        parameters = count(build())
    oracle(f"Parameters of {name}", source, "a count layer by layer", parameters, theirs, 0)


@pytest.mark.parametrize(("depth", "size", "field"), [(3, 70, 70), (2, 34, 34), (1, 16, 16)])
def test_receptive_fields(depth, size, field, oracle):
    D = translation.PatchDiscriminator(1, size=256, width=2, depth=depth, norm="none")
    for p in D.parameters():
        nn.init.constant_(p, 0.1)
    x = torch.zeros(1, 1, 144, 144, requires_grad=True)
    logits = D(x, torch.zeros(1, 0, 144, 144)).logits
    (gradient,) = torch.autograd.grad(logits[0, logits.shape[1] // 2, logits.shape[2] // 2], x)
    rows = gradient[0, 0].abs().sum(1).nonzero()
    oracle(
        f"Patch of PatchGAN with {depth + 2} convolutions",
        "Isola et al. 2017, section 6.1.2",
        "non-zero gradients",
        len(rows),
        field,
        0,
    )


def test_spectral_norm(oracle):
    layer = layers.spectral(nn.Conv2d(5, 7, 3)).double().train()
    original = layer.parametrizations.weight.original.detach().double()
    for _ in range(300):
        layer(normal(1, 5, 4, 4))
    singular = np.linalg.svd(original.flatten(1).numpy(), compute_uv=False)
    source = "Miyato et al. 2018, algorithm 1"
    oracle(
        "Spectral norm of a convolution, after 300 power iterations",
        source,
        "numpy's SVD",
        layer.weight,
        original / singular[0],
        1e-6,
    )


def test_batch_statistics(oracle):
    f = normal(6, 8)
    layer = layers.MinibatchDiscrimination(8, 3, 4).double()
    t = layer.project.weight.detach().numpy()
    m = (f.numpy() @ t.T).reshape(6, 3, 4)
    theirs = [
        [sum(np.exp(-np.abs(m[i, b] - m[j, b]).sum()) for j in range(6) if j != i) for b in range(3)] for i in range(6)
    ]
    oracle(
        "Minibatch discrimination", "Salimans et al. 2016, section 3.2", "a loop over pairs", layer(f)[:, 8:], theirs
    )
    maps = normal(6, 3, 4, 4, seed=1)
    theirs = np.full((6, 1, 4, 4), maps.numpy().std(0).mean())
    oracle(
        "Minibatch standard deviation",
        "Karras et al. 2018, section 3",
        "numpy.std",
        layers.MinibatchStd()(maps)[:, 3:],
        theirs,
        1e-7,
    )


def test_layers(oracle):
    x = normal(2, 3, 7, 9)
    theirs = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), "reflect")
    oracle("Reflection padding", "Johnson et al. 2016", "numpy.pad", layers.ReflectionPad(2)(x), theirs)
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    edges = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), "edge")
    blurred = np.stack([[scipy.signal.correlate2d(plane, kernel, "valid") for plane in image] for image in edges])
    oracle(
        "Blur of R3GAN's resampling",
        "binomial kernel, edges repeated",
        "scipy.signal.correlate2d",
        r3gan.blur(x),
        blurred,
    )
    halved = blurred[:, :, :6, :8].reshape(2, 3, 3, 2, 4, 2).mean((3, 5))
    oracle("Halving in R3GAN", "blur, then the mean of 2x2", "scipy and numpy", r3gan.Down(3).double()(x), halved)
    zoomed = scipy.ndimage.zoom(x[0, 0].numpy(), 2, order=1, mode="nearest", grid_mode=True)
    oracle("Doubling in R3GAN", "bilinear", "scipy.ndimage.zoom", r3gan.Up()(x)[0, 0], zoomed)

    norm, c = resnet.ClassBatchNorm(3, 4).double().train(), torch.eye(4).double()[[1, 3]]
    v = x.numpy()
    standard = (v - v.mean((0, 2, 3), keepdims=True)) / np.sqrt(v.var((0, 2, 3), keepdims=True) + 1e-5)
    table = norm.table.detach().numpy()[[1, 3]][:, :, None, None]
    oracle(
        "Conditional batch norm",
        "Dumoulin et al. 2017, section 2.2",
        "numpy",
        norm(x, c),
        standard * (1 + table[:, :3]) + table[:, 3:],
        1e-10,
    )

    D = resnet.Discriminator(3, 8, 4, classes=4, norm="none", projection=True).double()
    outputs = D(x := normal(2, 3, 8, 8), c)
    phi, psi, v = outputs.features.detach().numpy(), D.linear.weight.detach().numpy(), D.embed.weight.detach().numpy()
    theirs = phi @ psi[0] + [phi[0] @ v[:, 1], phi[1] @ v[:, 3]]
    oracle(
        "Logit of the projection discriminator", "Miyato and Koyama 2018, eq. 3", "numpy", outputs.logits, theirs, 1e-10
    )

    shuffled = sr.init_shuffled(nn.Conv2d(2, 12, 3), 2)
    nearest = nn.PixelShuffle(2)(shuffled(torch.ones(1, 2, 5, 5)))
    oracle(
        "Pixel shuffle at the start, difference within its 2x2 pixels",
        "Aitken et al. 2017",
        "nearest-neighbour enlargement",
        nearest,
        nearest[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3),
        1e-6,
    )


def test_layers_of_vgg(oracle):
    """phi_22 ends behind the second ReLU before the second pooling, phi_54 behind the fourth before the fifth."""
    from torchvision.models import vgg19

    with torch.device("meta"):
        features = vgg19().features
    for name, end in LAYERS.items():
        kinds = [type(layer) for layer in features[:end]]
        pools = kinds.count(nn.MaxPool2d)
        since = kinds[len(kinds) - kinds[::-1].index(nn.MaxPool2d) :]
        oracle(
            f"Position of VGG19's phi_{name}",
            "Ledig et al. 2017, eq. 5",
            "torchvision's layers",
            [pools + 1, since.count(nn.ReLU)],
            [int(name[0]), int(name[1])],
            0,
        )
        assert kinds[-1] is nn.ReLU


def test_initial_weights(oracle):
    """Standard deviations against the formulas, whose sampling error is 1 / sqrt(2 n)."""
    G = dcgan.Generator(100, 3, 32, 64)
    weights = torch.cat([m.weight.detach().flatten() for m in G.modules() if isinstance(m, nn.ConvTranspose2d)])
    oracle("DCGAN's initial weights, deviation", "Radford et al. 2016, section 4", "0.02", weights.std(), 0.02, 1e-3)
    block = r3gan.Block(256, 16)
    for layer, fan_in in ((block.expand, 256), (block.mix, 16 * 9)):
        theirs = np.sqrt(2 / (1 + 0.2**2) / fan_in) * 16 ** (-1 / 4)
        oracle(
            "R3GAN's initial weights, deviation",
            "Zhang et al. 2019 (Fixup), section 3",
            "He's formula times L^(-1/4)",
            layer.weight.std() / theirs,
            1.0,
            0.02,
        )
    D = resnet.Discriminator(3, 32, 64, norm="none")
    bound = np.sqrt(2) * np.sqrt(6 / (64 * 9 + 64 * 9))
    oracle(
        "SN-ResNet's initial weights, largest",
        "Glorot and Bengio 2010, eq. 16",
        "sqrt(2) times Xavier's bound",
        D.blocks[1].conv1.weight.abs().max() / bound,
        1.0,
        1e-3,
    )
