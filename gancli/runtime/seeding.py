"""Seeds for one purpose each, derived from the run's seed."""

import hashlib


def derive_seed(seed: int, *what: str | int) -> int:
    """A seed for one purpose, well mixed: the same (seed, what) gives the same number anywhere and always."""
    digest = hashlib.blake2b(repr((seed, *what)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
