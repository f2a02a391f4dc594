"""Training on a folder of one's own images: names, places that are refused, held-out images, start from another run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY, assert_same, learned
from PIL import Image

from gancli.data.crops import image_crops
from gancli.data.dataset import ImageDataset
from gancli.data.folder import folder
from gancli.data.listing import keep_split, list_folder
from gancli.losses.adversarial import Hinge
from gancli.objectives.gan import GAN
from gancli.report.run_folder import read_run
from gancli.training.few_images import HeldOut

SMALL = [word for word in TINY if not word.startswith(("data=", "data.n=", "run.dir="))]


def write_images(folder: Path, n: int = 12, size: tuple[int, int] = (12, 10), classes: tuple[str, ...] = ()) -> Path:
    """Write n PNG images of noise, in turn into a folder a class."""
    rng = np.random.default_rng(0)
    for i in range(n):
        inner = folder / classes[i % len(classes)] if classes else folder
        inner.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(inner / f"{i:04d}.png")
    return folder


def own(folder: Path | str, *words: str) -> list[str]:
    return ["train", *SMALL, "model=dcgan", "data=folder", f"data.path={folder}", "trainer.steps=2", *words]


@pytest.mark.parametrize(
    ("name", "said"), [("mycats", "mycats"), ("my cats (1)=é,{b} ${x}", "my-cats-1-é-b-x"), ("!?", "folder")]
)
def test_a_run_is_called_after_its_folder(gan, tmp_path, name, said):
    code, out, error = gan(*own(write_images(tmp_path / name)))
    assert code == 0 and f"training: dcgan on {name}, 12 images" in error
    run = Path(out.strip())
    assert run.name.startswith(f"dcgan-{said}-20")
    page = (run / "index.html").read_text()
    assert "<title>dcgan on " in page and "on folder" not in page


def test_images_that_are_all_alike_are_told(gan, tmp_path):
    for i in range(4):
        Image.new("RGB", (12, 12), "red").save(tmp_path / f"{i}.png")
    code, _, error = gan(*own(tmp_path, f"run.dir={tmp_path.parent / (tmp_path.name + '-run')}"))
    assert code == 0 and error.count("all 4 images are alike, so that a model can only repeat one; add others") == 1


@pytest.mark.parametrize(("model", "instead"), [("cgan", "dcgan"), ("sngan_proj", "sngan"), ("acgan", "sngan")])
def test_a_model_of_classes_needs_classes(gan, tmp_path, model, instead):
    code, _, error = gan(*own(write_images(tmp_path / "cats"), f"model={model}", "run.dir=out"))
    assert code == 1 and not Path("out").exists()
    assert f"model={model} learns to generate classes, but data=cats has none" in error and f"model={instead}" in error


@pytest.mark.slow
def test_nothing_is_written_among_the_images_that_are_trained_on(gan, tmp_path):
    images = write_images(tmp_path / "images")
    code, _, error = gan(*own(images, f"run.dir={images}/run"))
    assert code == 1 and "its samples would be trained on; type run.dir=DIR" in error
    assert gan(*own(images, "run.dir=run"))[0] == 0
    before = sorted(images.rglob("*"))
    for words in (
        ["upscale", str(images), f"out={images}"],
        ["upscale", str(images / "0000.png"), f"out={images}/new/"],
        ["sample", "ckpt=run", f"out={images}/samples.png"],
        ["project", str(images / "0000.png"), "ckpt=run"],
    ):
        code, _, error = gan(*words)
        assert code == 1, (words, error)
        assert f"would add to {images}, which a run was trained on; type out=DIR" in error
    assert sorted(images.rglob("*")) == before
    assert gan("sample", "ckpt=run", "n=2", "out=elsewhere.png")[0] == 0


def events_of(run: str) -> list[str]:
    return [line[21:] for line in Path(run, "log.txt").read_text().splitlines()]


def test_a_tenth_of_many_images_is_held_out_the_same_each_time(tmp_path):
    images = write_images(tmp_path / "images", 240, classes=("cat", "dog"))
    (images / "rare").mkdir()
    (images / "cat" / "0000.png").rename(images / "rare" / "0000.png")
    names: dict[str, list[str]] = {}
    for split in ("train", "test"):
        listing = list_folder(str(images), split)
        keep_split(listing, split, 0.1)
        names[split] = listing.names
        assert listing.split == split and listing.class_names == ["cat", "dog", "rare"]
    assert len(names["train"]) == 217 and len(names["test"]) == 23 and not {*names["train"]} & {*names["test"]}
    assert {name[:3] for name in names["test"]} == {"cat", "dog"}, "of each class a tenth"
    data = folder(str(images), 8, split="test", hold_out=0.1)
    assert len(data) == 23 and data.classes == 3 and "23 of 240 images are held out" in data.notes[0]
    assert len(folder(str(images), 8)) == len(folder(str(images), 8, hold_out=0)) == 240
    for name in names["test"][5:]:
        (images / name).unlink()
    some = folder(str(images), 8, split="test", hold_out=0.1)
    assert len(some) == 21, "without 18 images, two more take the places of those that are gone"


@pytest.mark.slow
def test_few_images_are_augmented_and_watched_unless_typed_otherwise(gan, tmp_path):
    images = write_images(tmp_path / "images", 220)
    words = own(images, "data.size=8", "trainer.steps=6")
    assert gan(*words, "run.dir=whole")[0] == 0
    log = events_of("whole")
    assert log[0].startswith("training: dcgan on images, 198 images,")
    assert any(line.startswith("22 of 220 images are held out") for line in log[:5])
    assert any("198 images are few" in line and "type model/augment=none" in line for line in log[:5])
    config = read_run(Path("whole")).config
    assert config["data"]["hold_out"] == 0.1 and config["model"]["augment"]["_target_"].endswith("DiffAugment")
    assert gan(*words, "run.dir=parts", "trainer.steps=3")[0] == 0
    assert gan("train", "resume=parts", "trainer.steps=6")[0] == 0
    parts, whole = learned(Path("parts")), learned(Path("whole"))
    assert parts["step"] == 6
    assert_same(parts["networks"], whole["networks"])
    assert gan(*words, "run.dir=off", "model/augment=none", "data.hold_out=0")[0] == 0
    assert not any("few" in line or "held out" in line for line in events_of("off"))
    code, out, error = gan("evaluate", "ckpt=whole", "n=20", "metrics=[kd_cifar]")
    assert code == 0 and "split test" in out and "20 of 22 images" in out, error


def test_a_test_folder_that_cannot_be_read_ends_no_training(gan, tmp_path):
    write_images(tmp_path / "images" / "train", 8)
    (tmp_path / "images" / "test").mkdir()
    (tmp_path / "images" / "test" / "a.png").write_bytes(b"no image")
    code, _, error = gan(*own(tmp_path / "images", "run.dir=run"))
    assert code == 0 and "memorising is not watched: data.path=" in error


def test_the_gap_is_one_where_d_knows_its_images_by_heart(tmp_path):
    """A D that is 1 for bright images, of which all that were held out are dark, as fakes are."""

    class Brightness(torch.nn.Module):
        def forward(self, x, c):
            return x.mean((1, 2, 3))

    class Dark(torch.nn.Module):
        z_dim, classes = 2, 0

        def forward(self, z, c):
            return torch.full((len(z), 3, 4, 4), -0.5) + 0.01 * z[:, :1, None, None]

    objective = GAN(Dark(), Brightness(), Hinge())
    grey = torch.arange(250, 200, -1)[:, None, None, None].expand(-1, 3, 4, 4).to(torch.uint8).contiguous()
    for held_out, gap in ((grey // 4, 1.0), (grey, 0.0)):
        watch = HeldOut(objective, ImageDataset(grey), ImageDataset(held_out), 0, torch.device("cpu"))
        assert watch.metrics(objective.G)["gap(held out)"] == pytest.approx(gap, abs=0.05)
    assert HeldOut(objective, ImageDataset(grey // 4), ImageDataset(grey), 0, torch.device("cpu")).metrics(Dark()) == {}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["fastgan", "dcgan", "vae"])
def test_images_that_are_not_square_are_learned_and_sampled_as_they_are(gan, tmp_path, model):
    words = own(write_images(tmp_path / "images", 24), f"model={model}", "data.size=[16,24]", "run.dir=run")
    assert gan(*words, "trainer.steps=1")[0] == 0
    assert gan("train", "resume=run", "trainer.steps=2")[0] == 0
    assert gan("sample", "ckpt=run", "n=2", "out=x.npz")[0] == 0
    assert np.load("x.npz")["images"].shape == (2, 16, 24, 3)
    assert "24x16" in gan("info", "ckpt=run")[1]
    if model == "vae":
        code, _, error = gan("reconstruct", str(tmp_path / "images" / "0000.png"), "ckpt=run", "out=r.png")
        assert code == 1 and "this model's are 24x16; type gan project" in error
    if model == "dcgan":
        code, out, error = gan("evaluate", "ckpt=run", "n=24", "metrics=[kd_cifar]")
        assert code == 0 and "24x16 colour" in out and "24x16 to 32 pixels" in out, error
        assert gan("sample", "ckpt=run", "n=2", "out=samples/")[0] == 0
        assert gan("upscale", "samples/000000.png", "out=large.png", "scale=2")[0] == 0
        assert Image.open("large.png").size == (48, 32)
        code, _, error = gan("export", "ckpt=run", "out=play.html")
        assert code == 1 and "a page shows square images, and this model's are 24x16" in error


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("[100,60]", "multiples of 8, because networks halve them; type data.size=[96,56]"),
        ("[64]", "a size is one number, or height and width"),
        ("[64,a]", "must be a whole number"),
        ("[0,64]", "must be a whole number, 1 or more"),
    ],
)
def test_a_size_that_no_network_can_halve_is_refused(gan, tmp_path, size, said):
    code, _, error = gan(*own(write_images(tmp_path / "images", 2), f"data.size={size}"))
    assert code == 1 and said in error


def test_images_of_other_shapes_are_cropped_padded_or_squashed(tmp_path):
    Image.new("RGB", (40, 10), "red").save(tmp_path / "a.png")
    for fit, white in (("crop", 0.0), ("pad", 0.5), ("squash", 0.0)):
        (image,) = folder(str(tmp_path), [16, 32], fit=fit).images
        assert image.shape == (3, 16, 32)
        assert (image[2] > 200).float().mean() == pytest.approx(white, abs=0.07)
    with pytest.raises(ValueError, match=r"data\.size=\[16,24\] is not possible, since images of this data are square"):
        image_crops(str(tmp_path), [16, 24])


# --- start from another run


def weights(run: str) -> dict[str, dict[str, torch.Tensor]]:
    return {name: network["state"] for name, network in learned(Path(run))["networks"].items()}


@pytest.mark.slow
def test_a_run_starts_from_one_of_another_size_and_of_other_classes(gan, tmp_path):
    images = write_images(tmp_path / "images", 24, classes=("cat", "dog"))
    first = own(images, "model=sngan_proj", "data.size=16", "run.dir=a")
    assert gan(*first)[0] == 0
    (images / "dog").rename(images / "fox")
    words = own(images, "model=sngan_proj", "data.size=32", "trainer.start=a", "run.dir=b", "model.lr=1e-30")
    code, _, error = gan(*words)
    assert code == 0, error
    assert "% of G's weights are those of a; new are" in error and "cat, dog, and this run's are cat, fox" in error
    before, after = weights("a"), weights("b")
    kept, added, of_classes = "blocks.0.conv1.weight", "blocks.2.conv1.weight", "norm.table"
    assert (
        torch.allclose(learned(Path("a"))["ema"][kept], after["G"][kept]) and added in after["G"].keys() - before["G"]
    )
    assert not torch.allclose(before["G"][of_classes], after["G"][of_classes])
    assert torch.allclose(before["D"]["blocks.0.conv1.bias"], after["D"]["blocks.0.conv1.bias"])
    code, _, error = gan(*own(images, "model=mlp", "trainer.start=a", "run.dir=c"))
    assert code == 1 and "does not fit this model's; type trainer.start= of a run with the same networks" in error


@pytest.mark.slow
def test_first_layers_of_d_stay_as_they_were(gan, tmp_path):
    images = write_images(tmp_path / "images", 24)
    words = own(images, "model=fastgan", "data.size=32", "trainer.steps=1")
    assert gan(*words, "run.dir=a")[0] == 0
    for typed, said in (
        (["trainer.freeze_d=2"], "keeps layers of another run's D; type trainer.start=RUN"),
        (["trainer.freeze_d=99", "trainer.start=a"], "would keep all"),
        (["trainer.freeze_d=1", "trainer.start=a", "model=vae"], "is for models with one D"),
    ):
        code, _, error = gan(*words, "run.dir=no", *typed)
        assert code == 1 and said in error
    assert gan(*words, "run.dir=b", "trainer.start=a", "trainer.freeze_d=2", "trainer.steps=2")[0] == 0
    assert gan("train", "resume=b", "trainer.steps=3")[0] == 0
    before, after = weights("a")["D"], weights("b")["D"]
    changed = [name for name in before if name.endswith("weight") and not torch.equal(before[name], after[name])]
    assert "stem.0.weight" not in changed and "downs.0.branch.0.weight" not in changed
    assert "downs.0.branch.3.weight" in changed and "last.3.weight" in changed


# --- several labels


@pytest.mark.slow
@pytest.mark.parametrize("model", ["fastgan", "cgan", "sngan_proj"])
def test_a_model_of_several_labels_is_asked_for_them(gan, tmp_path, model):
    images = write_images(tmp_path / "images", 12)
    rows = [f"{i:04d}.png,{'circle' if i % 2 else 'square'},{i / 4}" for i in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,shape,size", *rows]))
    words = own(images, f"model={model}", "data.labels=labels.csv", "data.size=16", "run.dir=run")
    assert gan(*words, "trainer.steps=1")[0] == 0
    code, _, error = gan("train", "resume=run", "trainer.steps=2")
    assert code == 0 and "labels: shape (circle, square); size (0 to 2.75)" in error
    assert gan("sample", "ckpt=run", "labels.shape=circle", "labels.size=1.5", "n=4", "out=a.npz")[0] == 0
    assert gan("sample", "ckpt=run", "n=4", "out=b.npz")[0] == 0
    a, b = (np.load(f"{name}.npz") for name in "ab")
    assert list(a) == ["images"] and (a["images"] != b["images"]).any()
    mine = str(write_images(tmp_path / "mine", 1) / "0000.png")
    for words, said in (
        (["sample", "labels.shape=circel"], "is none of circle, square; did you mean circle?"),
        (["sample", "classes=[1]"], "type labels.shape=, labels.size= in place of classes="),
        (["edit", "classes=[0,1]"], "type labels.shape=, labels.size= in place of classes="),
        (["project", mine, "labels.form=1"], "no label form; the labels are shape (circle, square); size (0 to 2.75)"),
    ):
        code, _, error = gan(*words, "ckpt=run")
        assert code == 1 and said in error
    code, out, error = gan("project", mine, "ckpt=run", "labels.shape=square", "steps=1", "fit=crop")
    latent = out.split()[0]
    assert code == 0 and ", shape square, size " in error
    for words in (["image=3", "labels.shape=circle", "out=d.png"], [latent, "out=e.png"]):
        assert gan("edit", "ckpt=run", "steps=2", "directions=1", *words)[0] == 0
    assert gan("export", "ckpt=run", "out=x.html")[0] == 0
    if model == "cgan":
        assert gan("edit", latent, "ckpt=mnist")[2].endswith("type gan project with this ckpt=\n")
        assert gan("export", "ckpt=run", "out=x.safetensors")[0] == 0
        assert gan("sample", "ckpt=x.safetensors", "labels.shape=circle", "out=c.png")[0] == 0
        Path("labels.csv").write_text("\n".join(["file,shape,size", *rows[::-1]]))
        code, _, error = gan("train", "resume=run", "trainer.steps=3")
        assert code == 1 and "data.labels 1 file" in error


@pytest.mark.slow
def test_a_single_label_gives_ordinary_classes(gan, tmp_path):
    images = write_images(tmp_path / "images", 12)
    rows = [f"{i:04d}.png,{'circle' if i % 2 else 'square'}" for i in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,shape", *rows]))
    assert gan(*own(images, "model=cgan", "data.labels=labels.csv", "run.dir=run", "trainer.steps=1"))[0] == 0
    for word, out in (("labels.shape=square", "a.npz"), ("classes=[square]", "b.npz")):
        assert gan("sample", "ckpt=run", word, "n=4", f"out={out}")[0] == 0
    a, b = (np.load(f"{name}.npz") for name in "ab")
    assert (a["images"] == b["images"]).all() and a["labels"].tolist() == [1] * 4
    code, _, error = gan("sample", "ckpt=run", "labels.form=square")
    assert code == 1 and "there is no label form; the labels are shape (circle, square)" in error
    assert gan("export", "ckpt=run", "out=x.html")[0] == 0
