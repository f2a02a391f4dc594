"""Contract of every model in configs/model: a new yaml is tested here and needs no test of its own."""

import pytest
import torch
from helpers import MODELS, config
from torch import nn

from gancli.config import build, choices
from gancli.inference.generator import command_for
from gancli.metrics.terms import find
from gancli.testing import PHASES, ModelContract, assert_resumes

LOSSES = choices("model/loss")


class OurContract(ModelContract):
    """Contract of our own models: gancli/metrics/terms.py has a line on all that they log."""

    def explains(self, key):
        return bool(find(key))


for model in MODELS:
    globals()[f"Test_{model}"] = type(f"Test_{model}", (OurContract,), {"model": model})


@pytest.mark.slow
def test_the_name_in_a_yaml_is_the_name_of_its_file():
    assert all(config(f"model={model}", tiny=False).model.name == model for model in MODELS)
    assert all(config(f"data={data}", tiny=False).data.name == data for data in choices("data"))


@pytest.mark.parametrize("at", [1, 4])
def test_a_run_that_is_interrupted_between_log_lines_or_at_one_resumes_to_the_bit(at, tmp_path):
    assert_resumes(tmp_path, "dcgan", at)


FOR_IMAGES = {
    **dict.fromkeys(["aegan", "vae", "vae_mlp", "vaegan"], "reconstruct"),
    **{"cyclegan": "translate", "pix2pix": "translate", "inpainting": "inpaint"},
    **dict.fromkeys([model for model in MODELS if model.startswith("sr")], "upscale"),
}


@pytest.mark.parametrize("model", MODELS)
def test_each_network_is_for_one_command(model):
    """What its attributes are called must not decide: the layer `scale` once made R3GAN's G one that enlarges."""
    with torch.device("meta"):
        G = build(config(f"model={model}", "data.classes=4", "data.channels=3").model.G)
    assert command_for(G) == FOR_IMAGES.get(model, "sample")


REMEDIES = {
    **{model: [f"model={model}"] for model in MODELS},
    **{name: [f"model/loss={name}"] for name in LOSSES},
    **{name: ["model.norm=none", f"model/penalty={name}"] for name in choices("model/penalty")},
    **{name: [f"model/augment={name}"] for name in choices("model/augment")},
    **{name: [f"model.minibatch={name}"] for name in ("discrimination", "std")},
    **{name: ["model=vae", f"model/likelihood={name}"] for name in ("bernoulli", "gaussian", "logistic")},
    **{name: ["model=pix2pix", f"model/task={name}"] for name in choices("model/task") if name != "given"},
    "packing": ["model=cgan", "model.packing=2", "model/penalty=r1", "model.norm=none"],
    "spectral norm": ["model.norm=spectral"],
    "new fakes": ["model.reuse_fakes=false"],
}


@pytest.mark.parametrize("name", REMEDIES)
def test_no_step_waits_for_the_host(name):
    """On the meta device a value that the host reads, or a tensor of the CPU, is an error."""
    model = config(*REMEDIES[name], "data.classes=4", "data.channels=3").model
    objective = build(model.objective)
    for part in vars(objective).values():
        if isinstance(part, nn.Module):
            part.to("meta")
    x = torch.empty(8, 3, 16, 16, device="meta")
    c = torch.empty_like(x) if "between" in model else torch.empty(8, model.classes, device="meta")
    for progress in PHASES:
        carried = None
        for update in objective.updates(0, progress):
            terms, carried = update.loss(x, c, carried)
            parameters = list(getattr(objective, update.network).parameters())
            sum(terms.values()).backward(inputs=parameters)
            if update.after_step:
                update.after_step()
            assert all(p.grad is not None for p in parameters), update.network
