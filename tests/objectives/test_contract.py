"""Contract of every model in configs/model: a new yaml is tested here and needs no test of its own."""

import pytest
import torch
from helpers import MODELS, config, start
from torch import nn
from torch.overrides import TorchFunctionMode

from gancli.config import build, choices
from gancli.metrics.terms import find
from gancli.testing import PHASES, ModelContract, assert_resumes
from gancli.training.loop import Trainer, check_parts

IN_PARTS = ("mlp", "wgan_gp", "feature_matching")
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


class NoiseByRow(TorchFunctionMode):
    """Within it, the rows of a batch get the same noise whether they are computed together or in parts, in float64."""

    def __init__(self, objective, batch: int, parts: int):
        super().__init__()
        self.batch, self.parts = batch, parts
        self.calls = self.losses = 0  # of random functions in this loss, and of losses
        self.dtype = torch.float64
        self.objective, self.condition = objective, type(objective).condition
        objective.updates, objective.condition = self.updates, self.narrow_condition

    def updates(self, step, progress):
        updates = type(self.objective).updates(self.objective, step, progress)
        return [update._replace(loss=self.counted(update)) for update in updates]

    def counted(self, update):
        def loss(x, c, fakes):
            self.calls = 0
            result = update.loss(x.double(), c.double(), fakes)
            self.losses += 1
            return result

        return loss

    def narrow_condition(self, x, c):
        """Return a condition that is computed in float32, as degradations are."""
        self.dtype = torch.float32
        c = self.condition(self.objective, x.float(), c.float()).double()
        self.dtype = torch.float64
        return c

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if getattr(function, "__name__", "") not in ("randn", "rand", "randint", "randn_like", "rand_like"):
            return result
        rows = self.batch // self.parts
        dim = list(result.shape).index(rows) if rows in result.shape else None  # none: one value for all rows
        shape = [self.batch if i == dim else size for i, size in enumerate(result.shape)]
        update, part = divmod(self.losses, self.parts)
        generator = torch.Generator().manual_seed(1000 * update + self.calls)
        self.calls += 1
        if result.is_floating_point():
            values = (torch.randn if "randn" in function.__name__ else torch.rand)(shape, generator=generator)
            values = values.to(self.dtype)
        else:
            values = torch.randint(*(a for a in args if isinstance(a, int)), shape, generator=generator)
        return values if dim is None else values.narrow(dim, part * rows, rows)


def without_batch_statistics(trainer: Trainer) -> Trainer:
    """Return a trainer whose weights are float64 and never change, and whose layers treat each image alone."""
    for part in vars(trainer.objective).values():
        if isinstance(part, nn.Module):
            part.double()
            for layer in part.modules():
                if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.Dropout) or "SpectralNorm" in str(
                    type(layer)
                ):
                    layer.eval()
    trainer.ema.update = lambda G: None
    for optimizer in trainer.optimizers.values():
        optimizer.step = lambda: None
    return trainer


@pytest.mark.parametrize("model", [pytest.param(m, marks=[pytest.mark.slow] * (m not in IN_PARTS)) for m in MODELS])
def test_a_batch_in_parts_has_the_gradient_of_the_whole_up_to_statistics_of_the_batch(model, tmp_path):
    words = ["model.reuse_fakes=false"] if "reuse_fakes" in config(f"model={model}").model else []
    trainer = without_batch_statistics(start(tmp_path, model, *words).trainer)
    if trainer.objective.whole_batch:  # its images are compared with each other
        with pytest.raises(ValueError, match=r"trainer\.accumulate=2 computes a batch in parts, but .*accumulate=1"):
            check_parts(2, trainer.objective, trainer.batches)
        return
    gradients = []
    for trainer.accumulate in (1, 2):
        trainer.step = trainer.batch_index = 0
        for progress in PHASES:
            for p in [p for parameters in trainer.parameters.values() for p in parameters]:
                p.grad = None
            with NoiseByRow(trainer.objective, 8, trainer.accumulate):
                trainer.train_step(progress)
            gradients += [[p.grad.clone() for ps in trainer.parameters.values() for p in ps if p.grad is not None]]
    for whole, parts in zip(gradients[:2], gradients[2:], strict=True):
        for a, b in zip(whole, parts, strict=True):
            assert (a - b).abs().max() <= 1e-6 * max(1.0, float(a.abs().max()))


@pytest.mark.parametrize("at", [1, 4])
def test_a_run_that_is_interrupted_between_log_lines_or_at_one_resumes_to_the_bit(at, tmp_path):
    assert_resumes(tmp_path, "dcgan", at)


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
