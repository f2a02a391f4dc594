"""Properties that all families of GAN networks share: sizes, classes, minibatch layers, spectral norm, refusals."""

import pytest
import torch
from torch import nn

from gancli.networks import dcgan, fastgan, mlp, r3gan, resnet
from gancli.networks.layers import LabelEmbedding, minibatch_layer


@pytest.fixture(params=[mlp, dcgan, resnet, r3gan], ids=lambda module: module.__name__.rpartition(".")[2])
def family(request):
    return request.param


def discriminator(family, channels: int, size: int, width: int = 8, classes: int = 0, **options) -> nn.Module:
    if family is resnet and classes:
        options.setdefault("projection", True)
    return family.Discriminator(channels, size, width, classes, **options)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("size", [8, 9, 16, 20, 27, 28, 30, 32, 33, 48, 64, 100])
def test_any_size_is_generated_and_discriminated(family, size, classes):
    G, D = family.Generator(10, 3, size, 4, classes), discriminator(family, 3, size, 4, classes)
    c = torch.eye(max(classes, 2))[:2, :classes]
    x = G(torch.randn(2, 10), c)
    assert (G.z_dim, G.classes) == (10, classes) and x.shape == (2, 3, size, size)
    assert family is r3gan or x.abs().max() <= 1
    logits, features, class_logits, _ = D(x, c)
    assert logits.shape == (2,) and len(features) == 2 and class_logits is None


def test_classes_change_images_and_logits(family):
    G, D = family.Generator(10, 1, 16, 8, classes=3).eval(), discriminator(family, 1, 16, classes=3).eval()
    x = G(torch.randn(1, 10).expand(3, -1), torch.eye(3))
    assert not torch.allclose(x[0], x[1])
    assert len(set(D(x[:1].expand(3, -1, -1, -1), torch.eye(3)).logits.tolist())) == 3


@pytest.mark.parametrize(("minibatch", "extra"), [("none", 0), ("std", 1), ("discrimination", 16)])
def test_minibatch_layers_append_features_of_the_batch(family, minibatch, extra):
    D, x, c = discriminator(family, 3, 16, minibatch=minibatch).eval(), torch.randn(4, 3, 16, 16), torch.zeros(4, 0)
    logits, features, *_ = D(x, c)
    assert logits.shape == (4,) and features.shape[1] == discriminator(family, 3, 16)(x, c).features.shape[1] + extra
    alone = torch.cat([D(x[i : i + 1], c[:1]).logits for i in range(4)])
    assert torch.allclose(logits, alone, atol=1e-5) == (minibatch == "none")


def test_spectral_norm_agrees_with_a_singular_value_decomposition(family):
    options = {"classes": 4, "auxiliary": True} if family is resnet else {}
    D = discriminator(family, 3, 16, norm="spectral", **options)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in D.modules())
    for _ in range(50):
        logits = D(torch.randn(4, 3, 16, 16), torch.eye(4)[:, : options.get("classes", 0)]).logits
    assert logits.isfinite().all()
    D.eval().requires_grad_(False)
    layers = [layer for layer in D.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert layers
    for layer in layers:
        original = layer.parametrizations.weight.original
        assert torch.linalg.svdvals(layer.weight.flatten(1))[0].item() == pytest.approx(1, abs=0.02)
        assert torch.allclose(layer.weight * torch.linalg.svdvals(original.flatten(1))[0], original, rtol=0.02)
    assert not any(hasattr(m, "parametrizations") for m in discriminator(family, 3, 16, norm="none").modules())


@pytest.mark.parametrize(("module", "options"), [(resnet, {"norm": "none", "pool": "mean"}), (r3gan, {"blocks": 1})])
def test_discriminators_can_be_differentiated_twice(module, options):
    D = module.Discriminator(1, 8, 2, **options).double()
    for block in D.modules():
        if isinstance(block, r3gan.Block):
            nn.init.normal_(block.project.weight, 0.0, 0.1)
    x = (torch.rand(2, 1, 8, 8, dtype=torch.float64) * 2 - 1).requires_grad_()
    names, weights = zip(*((name, p.detach().requires_grad_()) for name, p in D.named_parameters()))

    def logits(x, *weights):
        return torch.func.functional_call(D, dict(zip(names, weights)), (x, torch.zeros(2, 0))).logits

    assert torch.autograd.gradcheck(logits, (x, *weights), fast_mode=True)
    assert torch.autograd.gradgradcheck(logits, (x, *weights), fast_mode=True)


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


def test_an_embedding_without_classes_has_width_zero(recwarn):
    embedding = LabelEmbedding(0, 50)
    assert embedding.width == 0 and not list(embedding.parameters())
    assert embedding(torch.zeros(3, 0)).shape == (3, 0)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: minibatch_layer("stdd", 4), "model.minibatch=stdd is not one of none, .*did you mean std"),
        (lambda: mlp.Discriminator(3, 16, norm="batch"), "model.norm=batch is not one of none, spectral"),
        (lambda: r3gan.Discriminator(3, 16, norm="batch"), "model.norm=batch is not one of none, spectral"),
        (lambda: resnet.Discriminator(3, 16, norm="batch"), "model.norm=batch is not one of spectral, none"),
        (lambda: dcgan.Discriminator(3, 16, norm="spectrall"), "model.norm=spectrall is not .*did you mean spectral"),
        (lambda: resnet.Discriminator(3, 16, pool="max"), "model.pool=max is not one of sum, mean"),
        (lambda: resnet.Discriminator(3, 16, projection=True), "^projection needs classes, .* or model=sngan$"),
        (lambda: resnet.Discriminator(3, 16, auxiliary=True), "^acgan needs classes, .* or model=dcgan$"),
        *((lambda module=m: module.Generator(10, 1, 7), "data.size=7; type model=mlp") for m in (dcgan, resnet, r3gan)),
    ],
)  # fmt: skip
def test_impossible_networks_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("module", [dcgan, fastgan, mlp, r3gan, resnet])
def test_images_may_have_two_sides(module):
    G, D = module.Generator(8, 3, [16, 40], 4), module.Discriminator(3, [16, 40], 4)
    x = G(torch.randn(2, 8), torch.zeros(2, 0))
    assert x.shape == (2, 3, 16, 40)
    assert D(x, torch.zeros(2, 0)).logits.shape[0] == 2
