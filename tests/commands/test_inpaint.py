from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import difference, holed, save_scenes, scene

import gancli
from gancli.data.image_modes import image_to_array, standardize, tensor_to_array
from gancli.inference.inpainter import centre_mask, load_inpainter


@pytest.mark.parametrize("model", ["inpainting", "inpainting_grey"])
@pytest.mark.filterwarnings("ignore::gancli.data.image_modes.ImageWarning")
def test_files_keep_the_exact_pixels_outside_the_mask(gan, checkpoints, model):
    files = {name: standardize(Image.open(name)) for name, size in save_scenes().items() if size != (1, 1)}
    for format in ("png", "tiff", "webp"):
        names = [name for name, image in files.items() if format != "webp" or image.mode != "I;16"]
        words = ["mask=centre", f"out={format}/", f"format={format}"]
        code, out, error = gan("inpaint", *names, f"ckpt={checkpoints[model]}", *words)
        assert code == 0 and len(out.splitlines()) == len(names), error
        for name, path in zip(names, out.splitlines()):
            before, hole = image_to_array(files[name]), np.asarray(centre_mask(files[name].size)) > 0
            with Image.open(path) as file:
                after = image_to_array(file if format != "webp" else file.convert(files[name].mode))
            assert np.array_equal(after[~hole], before[~hole]), (name, format)
            if files[name].mode.endswith("A"):
                assert np.array_equal(after[..., -1], before[..., -1])


def test_the_command_gives_what_the_network_gives(gan, checkpoints):
    image, mask, ckpt = scene(40, 30), holed(40, 30), checkpoints["inpainting"]
    image.save("a.png")
    mask.save("m.png")
    code, out, error = gan("inpaint", "a.png", f"ckpt={ckpt}", "mask=m.png", "ema=false")
    assert code == 0 and out == "a_inpainted.png\n" and not error
    assert difference("a_inpainted.png", load_inpainter(ckpt, ema=False)(image, mask)) == 0
    x = torch.from_numpy(np.pad(np.asarray(image), ((0, 2), (0, 8), (0, 0)), mode="reflect")).permute(2, 0, 1)
    hole = torch.from_numpy(np.pad(np.asarray(mask), ((0, 2), (0, 8)), mode="reflect"))[None].float()
    c = torch.cat([(x / 127.5 - 1) * (1 - hole), hole])[None]
    expected = tensor_to_array(gancli.load(ckpt, ema=False).network(torch.zeros(1, 0), c), "RGB")[:30, :40]
    assert difference("a_inpainted.png", expected) <= 1


def test_a_folder_of_masks_is_matched_by_name(gan, checkpoints):
    ckpt = f"ckpt={checkpoints['inpainting']}"
    for name in ("photos/a.png", "photos/sub/a.jpg", "photos/sub/b c.png", "photos/lone.png", "photos/two.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        scene(16, 12).save(name)
    Path("masks/sub").mkdir(parents=True)
    for i, name in enumerate(("a.png", "sub/a.png", "sub/b c.PNG", "two.jpg", "two.tif")):
        holed(16, 12, seed=i).convert("L").save(f"masks/{name}")
    Path("masks/notes.txt").touch()
    code, out, error = gan("inpaint", "photos", ckpt, "mask=masks/")
    results = ["photos_inpainted/a_inpainted.png", "photos_inpainted/sub/a_inpainted.png"]
    assert code == 1 and out.splitlines() == [*results, "photos_inpainted/sub/b c_inpainted.png"]
    assert "gan: photos/lone.png: has no mask: there is no image lone.* in masks" in error
    assert "photos/two.png: has several masks: masks/two.jpg, masks/two.tif; leave one" in error
    assert "2 of 5 images failed" in error
    holed(16, 12).save("masks/two.png")  # exactly the image's name
    code, out, _ = gan("inpaint", "photos/two.png", "photos/a.png", ckpt, "mask=masks")
    assert code == 0 and out.splitlines() == ["photos/two_inpainted.png", "photos/a_inpainted.png"]
    for source, mask, result in zip(("photos/a.png", "photos/sub/a.jpg"), ("a.png", "sub/a.png"), results):
        hole = np.asarray(Image.open(f"masks/{mask}")) > 0
        before, after = (np.asarray(Image.open(name)) for name in (source, result))
        assert np.array_equal(before[~hole], after[~hole]) and (before[hole] != after[hole]).any()


def test_one_mask_for_all_images_of_its_size(gan, checkpoints):
    for name, width in (("a", 16), ("b", 16), ("c", 15)):
        scene(width, 12).save(f"{name}.png")
    holed(16, 12).save("m.gif")
    scene(16, 12, "I;16").save("deep.png")
    words = ("mask=m.gif", "out=x/", "format=webp")
    files = ("a.png", "b.png", "c.png", "deep.png")
    code, out, error = gan("inpaint", *files, f"ckpt={checkpoints['inpainting_grey']}", *words)
    assert code == 1 and out.split() == ["x/a_inpainted.webp", "x/b_inpainted.webp"]
    assert "gan: c.png: is 15x12, but its mask is 16x12" in error
    assert "gan: deep.png: has 16 bits and webp holds 8; type format=png" in error


def test_a_mask_applies_to_the_upright_image(gan, checkpoints):
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(30, 20).save("a.png", exif=exif)
    mask = Image.new("1", (20, 30))
    mask.paste(1, (0, 0, 5, 5))
    mask.save("m.png")
    assert gan("inpaint", "a.png", f"ckpt={checkpoints['inpainting']}", "mask=m.png")[0] == 0
    after, before = np.asarray(Image.open("a_inpainted.png")), np.asarray(scene(30, 20).rotate(-90, expand=True))
    changed = (after != before).any(2)
    assert changed[:5, :5].mean() > 0.5 and changed.sum() == changed[:5, :5].sum()
