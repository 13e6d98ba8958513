"""The injected world made of a seed: clock, chance, network, DNS, disk and peers.

For tests and `posthouse demo`; only `cli` imports it.
"""
