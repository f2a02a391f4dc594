"""PyTorch-GAN-zoo: its DCGAN with the defaults of its own script of training, run/basic_gan/train_dcgan.py."""

import pytorch_lightning
from adapter import Task
from ganzoo.constants import defaults
from ganzoo.lit_modules.dcgan import LitDCGAN

task = Task()
model = LitDCGAN(
    num_z_units=defaults.Z_DIM,
    z_distribution="uniform",
    num_conv_filters=defaults.NUM_CONV_KERNELS,
    image_dim=32,
    image_channels=task.channels,
    lr=0.001,
    beta1=0.5,
    beta2=0.9,
    loss_type="vanilla",
)
trainer = pytorch_lightning.Trainer(accelerator="cpu", max_epochs=-1, logger=False, enable_progress_bar=False)
# Without a validation set: the package's validation calls a function of torchvision by an argument that it never had.
task.train(lambda: trainer.fit(model, task.loader(defaults.BATCH_SIZE)))
task.write(lambda n: model(model.z_sampler(n)))
