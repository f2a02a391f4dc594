"""Models for gan."""
