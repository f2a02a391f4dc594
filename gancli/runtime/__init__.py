"""The process and its machine: device, seeds, determinism, hardware, ranks, locks, files, signals, terminal."""
