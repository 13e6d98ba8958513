"""Checks of the project itself, run from its root: `python -m tools.reliability`."""
