"""Checkpoints on the Hugging Face Hub, by the package huggingface_hub: hf:user/name, hf:user/name@revision.

Only one file is downloaded, which is read like any file of somebody else: no code of a repository runs.
"""

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gancli.runtime.terminal import say
from gancli.runtime.text import one_line

PREFIX = "hf:"
FILE = "model.safetensors"
USUAL = "https://huggingface.co"
LARGEST = 4 * 10**9  # bytes of a file that is downloaded


def is_address(path: str | Path) -> bool:
    """Return whether a typed checkpoint is one of the hub."""
    return str(path).startswith(PREFIX)


def split_address(address: str, key: str = "ckpt") -> tuple[str, str]:
    """Return repository and revision of hf:user/name or hf:user/name@revision; the revision may be empty."""
    name = r"[A-Za-z0-9][\w.-]*"
    match = re.fullmatch(rf"{PREFIX}({name}/{name})(?:@([\w./-]+))?", address, re.ASCII)
    if not match:
        raise ValueError(f"{key}={address} names no repository; type {key}=hf:user/name")
    return match[1], match[2] or ""


def download(address: str) -> Path:
    """Return the checkpoint of a repository in the hub's cache, or without a network the one that is there already."""
    repository, revision = split_address(address)
    words: dict[str, Any] = {"revision": revision or None, "endpoint": _endpoint()}
    with hub_errors(repository, revision) as hub:
        try:
            # Asks once, where hf_hub_download tries for half a minute.
            facts = hub.get_hf_file_metadata(hub.hf_hub_url(repository, FILE, **words), endpoint=_endpoint())
        except Exception as error:
            if getattr(error, "response", None) is not None:  # the hub has answered
                raise
            return _downloaded_before(hub, repository, error, words)
        if (facts.size or 0) > LARGEST:
            raise ValueError(f"{FILE} of {repository} has {facts.size / 1e9:,.0f} GB, too much for a generator")
        return Path(hub.hf_hub_download(repository, FILE, **words))


def _downloaded_before(hub: Any, repository: str, error: Exception, words: dict[str, Any]) -> Path:
    """Return a file of the cache, and say so; raise ValueError where there is none."""
    try:
        file = Path(hub.hf_hub_download(repository, FILE, local_files_only=True, **words))
    except Exception:
        raise unreachable(repository, error) from error
    say(f"gan: {_host()} cannot be reached; what was downloaded from {repository} before is used")
    return file


def check_upload(repository: str) -> None:
    """Raise ValueError where nothing can be pushed from here; for a command to call before its work."""
    with hub_errors(repository, "") as hub:
        if not hub.get_token():
            raise ValueError(f"hf:{repository} needs a token of yours; type hf auth login, or set HF_TOKEN=...")


def upload(repository: str, folder: Path, private: bool) -> str:
    """Create a repository where it is missing, commit the files of a folder, and return its address on the web."""
    with hub_errors(repository, "") as hub:
        api = hub.HfApi(endpoint=_endpoint())
        address = api.create_repo(repository, private=private or None, exist_ok=True)
        files = [(file.name, file) for file in sorted(folder.iterdir())]
        additions = [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(file)) for name, file in files]
        api.create_commit(repository, additions, commit_message="A generator of gan push")
        return str(address)


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or USUAL).rstrip("/")


def _host() -> str:
    return urlsplit(_endpoint()).netloc


@contextlib.contextmanager
def hub_errors(repository: str, revision: str) -> Iterator[Any]:
    """Yield the package huggingface_hub; ValueError says in one sentence what is missing or refused."""
    if not importlib.util.find_spec("huggingface_hub"):
        raise ValueError(f"hf:{repository} needs the package huggingface_hub; type pip install 'gancli[hub]'")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # nothing is requested but what was asked for
    import huggingface_hub
    from huggingface_hub import errors

    host = _host()
    try:
        yield huggingface_hub
    except errors.RevisionNotFoundError:
        raise ValueError(f"{repository} on {host} has no revision {revision}; type ckpt=hf:{repository}") from None
    except errors.RepositoryNotFoundError:
        raise ValueError(
            f"there is no repository {repository} on {host}, or it is private; correct its name, or type hf auth login"
        ) from None
    except errors.EntryNotFoundError:
        raise ValueError(
            f"{repository} on {host} has no {FILE}, which gan push writes; type ckpt=hf: and another name"
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        advice = "type hf auth login with a token that may" if status in (401, 403) else "try again later"
        said = one_line(error.server_message or "no reason", 150).rstrip(".")
        raise ValueError(f"{host} refused {repository} with {status} ({said}); {advice}") from None
    except ValueError:
        raise
    except Exception as error:  # of the network, from whichever library huggingface_hub uses
        raise unreachable(repository, error) from error


def unreachable(repository: str, error: Exception) -> ValueError:
    reason = one_line(error, 100).rstrip(".")
    return ValueError(f"{_host()} cannot be reached for {repository} ({reason}); check the network, then type it again")
