"""Evaluation of trained networks: one module for each type of network, results together with their protocol."""
