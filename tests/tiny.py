"""How every model is made small enough to train a round in milliseconds."""

TINY = [
    "data=synthetic", "data.n=64", "data.size=16", "model.width=4", "data.batch_size=8",
    "device=cpu", "trainer.steps=6", "trainer.log_every=2", "trainer.sample_every=3", "trainer.checkpoint_every=2",
    "trainer.precision=fp32",  # auto is another one on another processor
]  # fmt: skip
