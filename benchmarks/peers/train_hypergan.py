"""HyperGAN: its starter template dcgan, which it fits to a folder of images by itself.

It tells of a step when the step is over, so that its clock starts after the first one.
"""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import hypergan
import torch
from adapter import Task
from PIL import Image

task = Task()
folder = Path("images")
folder.mkdir(exist_ok=True)
for i, image in enumerate(task.images):
    Image.fromarray(image.squeeze()).save(folder / f"{i:05d}.png", compress_level=1)


def watch(event: Any) -> None:
    """Start the clock at the first step, and send the signal of Ctrl-C at its end: HyperGAN then saves and stops."""
    if event["event"] != "train":
        return
    if task.began is None:
        task.began = time.perf_counter()
        timer = threading.Timer(task.seconds_given, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()
    task.steps, task.seconds = event["step"], time.perf_counter() - task.began


# Its README calls the folder dataset=, which new() ignores.
project = hypergan.new(project="project", template="dcgan", data_dir=str(folder.resolve()), device="cpu")
model = hypergan.override(hypergan.load(project["recipe_path"]), {"train.seed": task.seed})
run = hypergan.train(model, "run", on_event=watch)
batches = iter(range(10**6))


def sample(n: int) -> torch.Tensor:
    """Return images of the averaged generator, which is what HyperGAN samples."""
    return hypergan.sample(run, count=n, seed=next(batches), output="samples.json").data


task.write(sample)
