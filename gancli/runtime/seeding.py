"""Seeds for one purpose each, derived from the run's seed."""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a well-mixed seed of 63 bits, the same for the same arguments on every machine."""
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
