"""Metrics of sets of images: tensors in, numbers out."""
