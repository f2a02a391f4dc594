import pytest
import torch

import gancli
from gancli.inference.generator import noise, slerp


@pytest.mark.parametrize("model", ["cgan", "dcgan"])
def test_image_i_of_a_seed_is_the_same_at_any_n(checkpoints, model):
    G = gancli.load(checkpoints[model])
    many = G.sample(150, seed=5)
    for n in (1, 2, 63, 64, 65, 149):
        assert torch.equal(G.sample(n, seed=5), many[:n])
    assert not torch.equal(many[0], many[1])
    assert not torch.equal(G.sample(1, seed=6)[0], many[0])


def test_images_are_the_same_where_memory_holds_few_at_a_time(checkpoints):
    G = gancli.load(checkpoints["dcgan"])
    expected, forward = G.sample(70, seed=2), G.network.forward

    def limited(z, c):
        if len(z) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(z, c)

    G.network.forward = limited
    assert torch.allclose(G.sample(70, seed=2), expected, atol=1e-6)


def test_noise_is_standard_normal_and_addressed_by_image_number():
    z = noise(range(20_000), 10, seed=0)
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
    assert torch.equal(noise(range(100, 103), 10, 0), z[100:103])
    assert len({tuple(row) for row in z[:, :3].tolist()}) == 20_000


def test_classes_repeat_in_turn_by_number_and_name(checkpoints):
    G = gancli.load(checkpoints["cgan"])
    names = G.class_names
    assert G.labels(5).tolist() == [i % G.classes for i in range(5)]
    assert G.labels(4, [2, 0]).tolist() == [2, 0, 2, 0]
    assert G.labels(3, [names[1]]).tolist() == [1, 1, 1]
    assert torch.equal(G.sample(2, classes=[1]), G.sample(2, classes=[names[1]]))
    assert not torch.equal(G.sample(1, classes=[0]), G.sample(1, classes=[1]))


def test_slerp_keeps_the_length_and_meets_the_ends():
    a, b = torch.nn.functional.normalize(torch.randn(2, 5, 16), dim=2)
    assert torch.allclose(slerp(a, b, 0.0), a, atol=1e-6) and torch.allclose(slerp(a, b, 1.0), b, atol=1e-6)
    assert torch.allclose(slerp(a, b, 0.3).norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.allclose(slerp(a, a, 0.5), a, atol=1e-6)


def test_interpolation_passes_through_the_images_of_the_seed(checkpoints):
    G = gancli.load(checkpoints["cgan"])
    frames = G.interpolate(3, 4, seed=1)
    assert frames.shape[0] == 12
    assert torch.allclose(frames[::4], G.sample(3, seed=1), atol=1e-5)
