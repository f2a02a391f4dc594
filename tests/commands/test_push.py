"""gan push and ckpt=hf:, with a server on this machine that speaks the hub's protocol; no network."""

import getpass
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import TINY, write_generator
from hub_server import COMMIT, Hub, serving
from PIL import Image
from play_pages import HOSTILE, lively

import gancli

constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra: type pip install 'gancli[hub]'")

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of a library of that package


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of this machine, with a token for it and a cache of its own."""
    home, resolve = tmp_path_factory.mktemp("home"), socket.getaddrinfo

    def resolve_here(host: str, *words: Any, **options: Any) -> Any:
        assert host == "127.0.0.1", host
        return resolve(host, *words, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_here)
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_TOKEN", server.token)
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)  # the library reads the variable when it begins
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{")[2]
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{server.endpoint}/{{{template}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a protocol of its own, which only the hub speaks
        yield server


@pytest.mark.slow
def test_what_is_pushed_is_sampled_by_others(
    hub: Hub, gan: Any, checkpoints: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checkpoints["cgan"].parent.parent
    code, out, error = gan("push", f"ckpt={run}", "to=hf:me/my-gan", "license=cc-by-4.0", "private=true")
    assert code == 0, error
    assert out == f"{hub.endpoint}/me/my-gan\n" and "others type gan sample ckpt=hf:me/my-gan" in error
    assert all(request.startswith(("POST ", "PUT ")) for request in hub.requests), "and nothing else is asked for"
    files = hub.repositories["me/my-gan"]
    assert sorted(files) == ["README.md", "model.safetensors", "samples.png"]
    asked = hub.visibility["me/my-gan"]
    assert asked.get("visibility") == "private" or asked.get("private") is True  # of newer and older versions
    code, _, error = gan("sample", "ckpt=hf:me/my-gan", "n=4", "out=x.npz")
    assert code == 0 and "model.safetensors" in error, error
    assert torch.equal(gancli.load("hf:me/my-gan").sample(3), gancli.load(run).sample(3))
    assert gancli.load(f"hf:me/my-gan@{COMMIT}").classes == 4
    Path("samples.png").write_bytes(files["samples.png"])
    assert Image.open("samples.png").width == 4 * 50 - 2, "a column for each class"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, _, error = gan("sample", "ckpt=hf:me/my-gan", "n=4", "out=x.npz")
    assert code == 0 and "cannot be reached; what was downloaded from me/my-gan before is used" in error


@pytest.mark.slow
def test_the_card_holds_config_scores_with_protocol_and_licence_and_no_path(
    hub: Hub, gan: Any, checkpoints: Any
) -> None:
    run = checkpoints["dcgan"].parent.parent
    assert gan("evaluate", f"ckpt={run}", "n=32", "metrics=[kd_cifar]")[0] == 0
    assert gan("push", f"ckpt={run}", "to=hf:me/my-gan", "license=mit", "half=true")[0] == 0
    text = hub.repositories["me/my-gan"]["README.md"].decode()
    _, head, body = text.split("---\n", 2)
    facts = yaml.safe_load(head)
    assert facts["license"] == "mit" and facts["pipeline_tag"] == "unconditional-image-generation"
    before, row = body.split("| kd_cifar")
    protocol = before.splitlines()[-4]
    assert "generated 32" in protocol and "seed 0" in protocol and row.split("|")[1].strip(), body
    settings = body.split("```text\n")[1].split("```")[0].splitlines()
    assert {"seed=0", "model.name=dcgan", "trainer.steps=2"} <= set(settings)
    assert "![generated images of seed 0](samples.png)" in body and "gan sample ckpt=hf:me/my-gan" in body
    names = {getpass.getuser(), socket.gethostname(), str(Path.home()), str(run)} - {"root"}
    for file in hub.repositories["me/my-gan"].values():
        assert not [name for name in names if len(name) > 2 and name.encode() in file]


def test_names_of_a_stranger_do_no_harm_in_a_card(hub: Hub, gan: Any, tmp_path: Path) -> None:
    ckpt = lively(tmp_path, "cgan", names=HOSTILE)
    code, _, error = gan("push", f"ckpt={ckpt}", "to=hf:me/odd")
    assert code == 0, error
    head, body = hub.repositories["me/odd"]["README.md"].decode().split("---\n", 2)[1:]
    assert "license" not in yaml.safe_load(head) and "not stated" in body
    row = next(line for line in body.splitlines() if line.startswith("| classes"))
    assert row.count("`") == 2 * len(HOSTILE) and "None were measured" in body


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("to=me/my-gan", "to=me/my-gan names no repository; type to=hf:user/name"),
        ("to=hf:my-gan", "to=hf:my-gan names no repository; type to=hf:user/name"),
        ("to=hf:me/../x", "names no repository"),
        ("to=hf:me/x@main", "type to=hf:me/x"),
        ("to=hf:me/x license=MIT!", "license=MIT! is no identifier of the hub; type license=mit"),
    ],
)
def test_a_wrong_address_or_licence_is_one_sentence(
    words: str, message: str, hub: Hub, gan: Any, checkpoints: Any
) -> None:
    code, _, error = gan("push", f"ckpt={checkpoints['cgan']}", *words.split())
    assert code == 1 and message in error and len(error.splitlines()) == 1 and not hub.requests


def test_what_the_hub_refuses_is_one_sentence(
    hub: Hub, gan: Any, checkpoints: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*words: str) -> str:
        code, out, error = gan(*words)
        assert code == 1 and not out and len(error.splitlines()) == 1, error
        return error

    host, push = hub.endpoint.partition("//")[2], ("push", str(checkpoints["cgan"]), "to=hf:me/x")
    assert f"there is no repository me/no on {host}, or it is private" in failing("sample", "ckpt=hf:me/no")
    hub.repositories["me/empty"] = {}
    assert f"me/empty on {host} has no model.safetensors" in failing("info", "ckpt=hf:me/empty")
    assert f"me/empty on {host} has no revision old" in failing("info", "ckpt=hf:me/empty@old")
    assert "names no repository; type ckpt=hf:user/name" in failing("info", "ckpt=hf:empty")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "refused me/x with 403 (You don't have the rights to create a model)" in failing(*push)
    monkeypatch.delenv("HF_TOKEN")
    assert "hf:me/x needs a token of yours; type hf auth login, or set HF_TOKEN=..." in failing(*push)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "127.0.0.1:9 cannot be reached for me/empty" in failing("info", "ckpt=hf:me/empty")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert "127.0.0.1:9 cannot be reached for me/x" in failing(*push)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for words in (push, ("sample", "ckpt=hf:me/empty")):
        assert "needs the package huggingface_hub; type pip install 'gancli[hub]'" in failing(*words)


def test_a_downloaded_checkpoint_is_as_untrusted_as_any(hub: Hub, gan: Any) -> None:
    evil = write_generator(Path("evil.safetensors"), {"_target_": "os.system", "command": "touch done"}, {})
    hub.repositories["me/evil"] = {"model.safetensors": evil.read_bytes(), "model.py": b"open('done', 'w')"}
    hub.repositories["me/torn"] = {"model.safetensors": evil.read_bytes()[:-40]}
    hub.repositories["me/other"] = {"model.safetensors": b"\x02\0\0\0\0\0\0\0{}"}
    code, _, error = gan("sample", "ckpt=hf:me/evil")
    assert code == 1 and "asks for 'os.system', which is not a network of gancli" in error
    for name in ("torn", "other"):
        code, _, error = gan("sample", f"ckpt=hf:me/{name}")
        assert code == 1 and "model.safetensors" in error and len(error.splitlines()) == 1
    assert not Path("done").exists() and not any("model.py" in request for request in hub.requests)


@pytest.mark.slow
def test_a_training_starts_from_a_generator_of_the_hub(hub: Hub, gan: Any, checkpoints: Any) -> None:
    assert gan("push", f"ckpt={checkpoints['cgan']}", "to=hf:me/start")[0] == 0
    words = ("model=cgan", *TINY, "trainer.start=hf:me/start", "run.dir=next", "trainer.steps=1")
    code, _, error = gan("train", *words)
    assert code == 0 and "model.safetensors holds no D; only G starts from it" in error
