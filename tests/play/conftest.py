from scenes import checkpoints  # noqa: F401
