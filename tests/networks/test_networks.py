"""The networks at the sizes that are promised."""

import pytest
import torch

from gancli.networks import dcgan, mlp
from gancli.networks.layers import LabelEmbedding


@pytest.mark.parametrize("size", [8, 9, 16, 20, 27, 28, 30, 32, 33, 48, 64, 100])
def test_dcgan_makes_and_reads_any_size(size):
    G, D = dcgan.Generator(10, 3, size, 4), dcgan.Discriminator(3, size, 4)
    x = G(torch.randn(2, 10), torch.zeros(2, 0))
    assert x.shape == (2, 3, size, size)
    assert D(x, torch.zeros(2, 0)).logits.shape == (2,)


def test_dcgan_at_32_is_the_paper_layer_by_layer():
    G = dcgan.Generator(100, 3, 32, 64)
    kernels = [tuple(p.shape) for p in G.parameters() if p.dim() == 4]
    assert kernels == [(100, 256, 4, 4), (256, 128, 4, 4), (128, 64, 4, 4), (64, 3, 4, 4)]
    D = dcgan.Discriminator(3, 32, 64)
    kernels = [tuple(p.shape) for p in D.parameters() if p.dim() == 4]
    assert kernels == [(64, 3, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (1, 256, 4, 4)]
    weights = torch.cat([p.flatten() for p in G.parameters() if p.dim() == 4])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01) and abs(weights.mean().item()) < 1e-4


def test_mlp_has_the_classic_widths():
    G, D = mlp.Generator(100, 1, 28), mlp.Discriminator(1, 28)
    assert [p.shape[0] for p in G.parameters() if p.dim() == 2] == [256, 512, 1024, 784]
    assert [p.shape[0] for p in D.parameters() if p.dim() == 2] == [1024, 512, 256, 1]


def test_too_small_an_image_is_refused_with_another_model():
    with pytest.raises(ValueError, match=r"data.size=7; type model=mlp"):
        dcgan.Generator(10, 1, 7)


def test_an_embedding_of_no_classes_is_nothing(recwarn):
    nothing = LabelEmbedding(0, 50)
    assert nothing.width == 0 and not list(nothing.parameters())
    assert nothing(torch.zeros(3, 0)).shape == (3, 0)
    assert not recwarn.list


@pytest.mark.parametrize("network", [mlp, dcgan])
def test_classes_change_images_and_logits(network):
    torch.manual_seed(0)
    G, D = network.Generator(10, 1, 16, 4, classes=3).eval(), network.Discriminator(1, 16, 4, classes=3).eval()
    z, one_hot = torch.randn(1, 10).expand(3, -1), torch.eye(3)
    x = G(z, one_hot)
    assert not torch.allclose(x[0], x[1])
    logits = D(x[:1].expand(3, -1, -1, -1), one_hot).logits
    assert len(set(logits.tolist())) == 3
