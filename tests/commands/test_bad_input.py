"""Bad input gets one sentence and an exit code, and nothing is written."""

from pathlib import Path

import pytest
from PIL import Image
from scenes import here, png, scene

EVERY_FILE_COMMAND = [
    ("", 2, "was given no image; type gan"),
    ("a.png out=a.gif", 1, "out=DIR/"),
    ("a.png overwrite=true skip=true", 2, "contradict"),
    ("a.png device=cuda:9", 1, "device=cpu"),
    ("a.png out=a.png overwrite=true", 1, "its own result"),
    ("a.png a.png out=b.png b.png", 1, "names one image"),
    (". out=b.png", 1, "is a folder; type out=DIR/"),
    ("empty", 1, "no image is in it"),
    ("a.png overwrit=true", 2, "did you mean overwrite?"),
]
WITH_A_CHECKPOINT = [
    ("a.png ckpt=", 1, "no checkpoint was given"),
    ("a.png ckpt=latest", 1, "there is no run in"),
    ("a.png ckpt=absent.safetensors", 1, "there is no checkpoint absent.safetensors"),
]
FILE_COMMANDS = {
    "upscale": "",
    "translate": "cyclegan",
    "inpaint mask=centre": "inpainting",
    "reconstruct": "aegan",
    "project fit=squash steps=1": "dcgan",
}
# Command: (model, arguments, exit code, part of the message).
ROWS = {
    "upscale a.png": [
        ("", "scale=8", 1, "run gan upscale again on its result"),
        ("", "style=sharpp", 1, "did you mean sharp?"),
        ("", "format=bmp", 1, "format=bmp is not one of png, jpg, webp, tiff"),
        ("", "out=b.jpg format=png", 1, "leave format= out"),
        ("", "quality=0", 1, "type quality=95"),
        ("", "tile=-1", 1, "type tile=256"),
        ("", "ckpt=latest", 1, "there is no run in"),
        ("", "ckpt=absent.safetensors", 1, "there is no checkpoint absent.safetensors"),
    ],
    "translate a.png": [
        ("pix2pix", "direction=back", 1, "in one direction only; leave direction= out"),
        ("cyclegan", "direction=bakc", 1, "did you mean back?"),
    ],
    "reconstruct a.png": [
        ("aegan", "classes=[1]", 1, "unconditional"),
        ("vae_classes", "classes=[4]", 1, "class 4 is outside 0 to 3"),
        ("vae_classes", "classes=[circel]", 1, "did you mean circle?"),
        ("dcgan", "", 1, "is a dcgan, which turns noise into images; type gan project IN ckpt="),
    ],
    "inpaint a.png": [
        ("inpainting", "", 1, "no mask was given; type mask=FILE"),
        ("inpainting", "mask=absent.png", 1, "there is no mask absent.png; type mask=FILE"),
        ("inpainting", "mask=center", 1, "did you mean centre?"),
        ("inpainting", "mask=masks/black.png", 1, "mask has no white pixels"),
        ("inpainting", "mask=masks/white.png", 1, "mask covers the whole image (16x16); leave some pixels black"),
        ("inpainting", "mask=masks/wide.png", 1, "its mask is 17x16; type mask=FILE of the size of the image"),
        ("inpainting", "mask=masks/empty.png", 1, "mask masks/empty.png cannot be used: is empty"),
        ("inpainting", "mask=masks/text.png", 1, "is not an image"),
        ("inpainting", "mask=masks/bomb.png", 1, "cannot be used"),
        ("inpainting", "mask=centre out=b.jpg", 1, "jpg changes every pixel, also those outside the mask; type out="),
        ("inpainting", "mask=centre format=jpg", 1, "type format=png"),
        ("inpainting", "mask=centre quality=90", 2, "no key 'quality'"),
    ],
    "project a.png": [
        ("cgan", "out=x.jpg", 1, "type out=x.png or out=DIR/"),
        ("cgan", "steps=-1", 1, "steps=-1 is out of range, it must be 0 or more; type steps=500"),
        ("cgan", "classes=[9]", 1, "class 9 is outside 0 to 3"),
        ("cgan", "fit=corp", 1, "did you mean crop?"),
        ("sr_compact", "", 1, "does not sample from noise"),
    ],
    "sample": [
        ("sr_compact", "", 1, "does not sample from noise"),
        ("dcgan", "classes=[1]", 1, "unconditional"),
        ("cgan", "classes=[4]", 1, "class 4 is outside 0 to 3"),
        ("cgan", "classes=[circel]", 1, "did you mean circle?"),
        ("dcgan", "n=0", 1, "n=0 is out of range"),
        ("dcgan", "n=10001", 1, "a grid holds at most 10,000 images"),
        ("dcgan", "out=a.bmp", 1, "out=grid.png"),
        ("dcgan", "interpolate=-1", 1, "type interpolate=8"),
        ("dcgan", "interpolate=3 n=1", 1, "n=1"),
        ("dcgan", "images=[a.png,b.png]", 1, "interpolate=0; type interpolate=8"),
        ("dcgan", "images=a.png interpolate=8", 1, "but 1 were given with interpolate=8"),
        ("dcgan", "images=[a.png,b.png] interpolate=1", 1, "interpolate=1; type interpolate=8"),
        ("dcgan", "images=[x.png,b.png] interpolate=8", 1, "x.png: is not a file that can be opened"),
        ("dcgan", "device=cuda:9", 1, "device=cpu"),
    ],
    "edit": [
        ("sr_compact", "", 1, "does not sample from noise"),
        ("dcgan", "a.png b.png", 2, "takes one image, but 2 were given; type gan edit a.png"),
        ("dcgan", "absent.png", 1, "absent.png: is not a file that can be opened"),
        ("dcgan", "classes=[1,2]", 1, "no encoder to find them with; leave classes= out"),
        ("cgan", "classes=[1,2,3]", 1, "but 3 were given; type classes=[3,8]"),
        ("cgan", "classes=[0,1] plane=true", 1, "leave one out"),
        ("aegan", "classes=[circel,cross]", 1, "did you mean circle?"),
        ("aegan", "classes=[0,1] data=mnst10k", 1, "did you mean mnist10k?"),
        ("aegan", "classes=[0,1] data=empty", 1, "no images"),
        ("dcgan", "steps=1", 1, "steps=1 is out of range, it must be 2 or more; type steps=9"),
        ("dcgan", "directions=0", 1, "directions=0 is out of range"),
        ("dcgan", "image=-1", 1, "type image=0"),
        ("dcgan", "out=x.bmp", 1, "type out=grid.png"),
    ],
}
CASES = [
    *((command, *row) for command, rows in ROWS.items() for row in rows),
    *((command, model, *row) for command, model in FILE_COMMANDS.items() for row in EVERY_FILE_COMMAND),
    *((command, model, *row) for command, model in FILE_COMMANDS.items() if model for row in WITH_A_CHECKPOINT),
]


@pytest.mark.parametrize(("command", "model", "arguments", "code", "message"), CASES)
@pytest.mark.usefixtures("weights")
def test_bad_input_gets_one_sentence(gan, checkpoints, command, model, arguments, code, message):
    scene(16, 16).save("a.png")
    content = Path("a.png").read_bytes()
    Path("empty").mkdir()
    Path("masks").mkdir()
    for name, width, level in (("black", 16, 0), ("white", 16, 255), ("wide", 17, 255)):
        Image.new("L", (width, 16), level).save(f"masks/{name}.png")
    for name, data in (("empty", b""), ("text", b"a text"), ("bomb", png(2**15, 2**15, bits=8, colour=0))):
        Path(f"masks/{name}.png").write_bytes(data)
    ckpt = [f"ckpt={checkpoints[model]}"] if model and "ckpt=" not in arguments else []
    result, out, error = gan(*command.split(), *arguments.split(), *ckpt)
    assert result == code and message in error and len(error.strip().splitlines()) == 1, error
    assert not out and here() == ["a.png", "empty", "masks"] and Path("a.png").read_bytes() == content
