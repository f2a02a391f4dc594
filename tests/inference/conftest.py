from scenes import checkpoints, weights  # noqa: F401
