"""Losses: adversarial losses, gradient penalties, content losses and divergences."""
