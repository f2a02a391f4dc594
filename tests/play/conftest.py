import pytest
from scenes import checkpoints  # noqa: F401

from gancli.inference import upscaler


@pytest.fixture(autouse=True)
def fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no processor enlarge in bf16, which pages do not have."""
    monkeypatch.setattr(upscaler, "multiplies_bf16", lambda device: False)
