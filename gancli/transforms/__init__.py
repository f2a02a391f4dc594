"""Transforms of image tensors: augmentation, degradation, image-to-image tasks and masks."""
