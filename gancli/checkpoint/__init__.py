"""Checkpoint files: their format, and what may be rebuilt from them."""
