"""The only place that builds things and hands them to each other; start and stop of a node.

`Node` is one whole server over a `World` of ports: the real one for `posthouse serve`, the lab's on
loopback for `posthouse demo` and tests, a simulated one in `sim`.
"""

from posthouse.app.node import Node
from posthouse.app.world import World

__all__ = ["Node", "World"]
