"""Trained generators put to use: sampling, latents, upscaling and other image-to-image inference."""
