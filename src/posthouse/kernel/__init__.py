"""Shared nouns only: what every layer may know. Pure; no clocks, sockets, chance or disks."""
