"""gan export: G alone as a checkpoint, and as ONNX for other programs."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import MODELS, TINY, start
from PIL import Image

import gancli
from gancli.checkpoint import format as checkpoint
from gancli.commands import export
from gancli.config import config_file
from gancli.data.classes import one_hot


@pytest.mark.parametrize("half", ["false", "true"])
def test_gancli_load_and_every_command_read_an_exported_file_with_g_alone(gan, half):
    assert gan("train", "model=dcgan", *TINY, "run.dir=run")[0] == 0
    for ema in ("true", "false"):
        out = f"exported/{ema}.safetensors"
        assert gan("export", "ckpt=run", f"out={out}", f"half={half}", f"ema={ema}")[:2] == (0, f"{out}\n")
        content = checkpoint.read(Path(out))
        state = content["networks"]["G"]["state"]
        assert list(content["networks"]) == ["G"] and not {"ema", "optimizers"} & content.keys()
        assert "dcgan on synthetic, 6 steps, 48 images" in content["trained"] and "run" not in content["config"]
        expected = gancli.load("run", ema=ema == "true").sample(4)
        assert torch.allclose(gancli.load(out).sample(4), expected, atol=1e-2 if half == "true" else 0)
        dtypes = {t.dtype for t in state.values() if t.is_floating_point()}
        assert dtypes == {torch.half if half == "true" else torch.float}
    assert gan("info", f"ckpt={out}")[0] == 0
    assert gan("export", f"ckpt={out}", "out=again.safetensors", f"half={half}")[0] == 0
    assert Path("again.safetensors").read_bytes() == Path(out).read_bytes()
    code, _, error = gan("train", "model=dcgan", *TINY, f"trainer.start={out}", "run.dir=next", "trainer.steps=1")
    assert code == 0 and "exported/false.safetensors holds no D; only G starts from it" in error


@pytest.mark.parametrize(
    ("model", "commands"),
    [
        ("sr_compact", [["upscale", "in.png", "scale=2"]]),
        ("sr_attentive", [["upscale", "in.png", "scale=2"]]),
        ("pix2pix", [["translate", "in.png"]]),
        ("inpainting", [["inpaint", "in.png", "mask=centre"]]),
        ("vae_mlp", [["reconstruct", "in.png"], ["edit", "steps=3"], ["sample", "n=4"]]),
        ("dcgan", [["evaluate", "n=32", "metrics=[kd_cifar]"]]),
    ],
)
def test_an_exported_file_gives_the_same_results_as_its_run(model, commands, gan, checkpoints):
    assert gan("export", f"ckpt={checkpoints[model]}", "out=g.safetensors")[0] == 0
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save("in.png")
    for command, *words in commands:
        results = []
        for ckpt in (checkpoints[model], "g.safetensors"):
            key, file = ("json", Path("x.json")) if command == "evaluate" else ("out", Path("x.png"))
            code, _, error = gan(command, *words, f"ckpt={ckpt}", f"{key}={file}", "device=cpu")
            assert code == 0, error
            results.append(json.loads(file.read_text()) if command == "evaluate" else file.read_bytes())
            if command == "evaluate":
                results[-1]["protocol"].pop("weights")
            file.unlink()
        assert results[0] == results[1]


def test_branches_are_exported_as_plain_convolutions_and_blend(gan, checkpoints):
    run = checkpoints["sr_attentive"]
    for name, words in (("g", []), ("again", ["ckpt=g.safetensors"]), ("both", ["blend=g.safetensors"])):
        assert gan("export", f"ckpt={run}", f"out={name}.safetensors", *words)[0] == 0
    trained, *exported = (
        gancli.load(path).network for path in (run, *map(Path, ("g.safetensors", "both.safetensors")))
    )
    x = torch.rand(2, 3, 9, 7) * 2 - 1
    for network in exported:
        assert sum(p.numel() for p in network.parameters()) < sum(p.numel() for p in trained.parameters()) / 2
        assert torch.allclose(network(x[:, :0, 0, 0], x), trained(x[:, :0, 0, 0], x), atol=1e-4)
    assert Path("again.safetensors").read_bytes() == Path("g.safetensors").read_bytes()
    words = ("model=sr_attentive", "model.scale=2", "model.depth=1", "trainer.start=g.safetensors", "run.dir=next")
    code, _, error = gan("train", *words, *TINY)
    assert code == 1 and "type trainer.start= of a run" in error, "only a run has the branches that training needs"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["out=g.pickle"], "type out=generator.safetensors"),
        (["out=h.safetensors", "ckpt="], "no checkpoint was given"),
        (["out=g.onnx", "half=true"], "half=true is for out=x.safetensors"),
        (["out=g.onnx"], "pip install 'gancli[onnx]'"),
        (["out=there.safetensors"], "is there already"),
        (["out=n.safetensors", "blend={cgan}", "blend_weight=2"], "blend_weight=2"),
        (["out=n.safetensors", "blend={cgan}"], "blend= has another network"),
    ],
)
def test_mistakes_get_one_sentence_and_write_nothing(words, message, gan, checkpoints, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    Path("there.safetensors").write_text("mine")
    before = {*Path().iterdir()}
    cgan = checkpoints["cgan"]
    code, _, error = gan("export", f"ckpt={checkpoints['dcgan']}", *(word.format(cgan=cgan) for word in words))
    assert code == 1 and message in error and len(error.splitlines()) == 1
    assert {*Path().iterdir()} == before and Path("there.safetensors").read_text() == "mine"


SAME_GENERATOR = {"drifting": "dcgan", "sngan": "acgan", "mlp": "cgan_mlp"}  # the second with classes, if it can


def generators() -> list[str]:
    """Return a model with each generator: those whose yaml has one of its own. Composing all takes longer."""
    own = [model for model in MODELS if re.search(r"^G:", config_file(f"model/{model}").read_text(), re.M)]
    return sorted({SAME_GENERATOR.get(model, model) for model in own})


@pytest.mark.slow
@pytest.mark.parametrize("model", generators())
def test_onnx_gives_the_same_images_at_any_number_and_size(model, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    run, file = start(tmp_path / "run", model), tmp_path / "exported" / "g.onnx"
    for _ in range(2):
        run.trainer.train_step(0.0)  # changes the statistics of batch norm
    run.save()
    capsys.readouterr()
    export.main(str(tmp_path / "run"), str(file), half=False, blend="", blend_weight=0.5, ema=False)
    out, example = capsys.readouterr()
    assert out == f"{file}\n" and len(example.splitlines()) == 3, example
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    network, facts = run.trainer.objective.G.eval(), session.get_modelmeta().custom_metadata_map
    assert f"{model} on synthetic, 2 steps" in facts["trained"] and json.loads(facts["output"])["channels"] == 3
    assert json.loads(facts["class_names"]) == run.data.class_names
    names = [i.name for i in session.get_inputs()]
    assert [o.name for o in session.get_outputs()] == ["image"]
    assert names == [name for name in "zc" if f"{name}: " in facts["call"]]
    for n, height, width in ((1, 6, 5), (3, 16, 1), (7, 9, 11)):
        c = one_hot(torch.arange(n) % max(network.classes, 1), network.classes)
        if not network.z_dim:  # an image, with sides that it can halve
            multiple = getattr(network, "multiple", 0)
            sides = [multiple * max(side, 2) if multiple else side for side in (height, width)]
            c = torch.rand(n, getattr(network, "source_channels", 3), *sides)
        z = torch.randn(n, network.z_dim)
        with torch.no_grad():
            expected = network(z, c).clamp(-1, 1)
        images = session.run(None, {name: {"z": z, "c": c}[name].numpy() for name in names})[0]
        assert torch.allclose(torch.from_numpy(images), expected, rtol=0, atol=1e-4)
    names_of_example: dict = {}
    exec(example, names_of_example)
    assert names_of_example["image"].dtype == "float32" and abs(names_of_example["image"]).max() <= 1


@pytest.mark.slow
def test_an_onnx_file_with_other_images_is_removed(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    start(tmp_path / "run", "mlp").save()
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match=r"differ from this generator's.*type out=generator.safetensors"):
        export.main(str(tmp_path / "run"), str(tmp_path / "g.onnx"), half=False, blend="", blend_weight=0.5, ema=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_a_blend_is_the_weighted_mean_of_two_networks(gan):
    for name, steps in (("a", 2), ("b", 6)):
        assert gan("train", "model=mlp", *TINY, f"run.dir={name}", f"trainer.steps={steps}")[0] == 0
    assert gan("export", "ckpt=b", "blend=a", "blend_weight=0.25", "out=m.safetensors")[0] == 0
    a, b, mixed = (gancli.load(name).network.state_dict() for name in ("a", "b", "m.safetensors"))
    assert "0.25 of mlp on synthetic, 6 steps" in checkpoint.read(Path("m.safetensors"))["trained"]
    for name, x in mixed.items():
        assert torch.allclose(x, 0.75 * a[name] + 0.25 * b[name], atol=1e-7)
