"""Two servers, one of which rotates its DKIM keys while it writes to the other."""

import re
from typing import Any

import msgspec

from posthouse.accounts import domain_keys
from posthouse.accounts.domain_keys import KeyState
from posthouse.config.schema import Config
from posthouse.sim.ground import Simulated
from posthouse.sim.lab import Lab
from posthouse.sim.world import run_virtual

HOUR_S, DAY_S = 3_600.0, 86_400.0
ADA, BOB = "ada@north.example", "bob@south.example"
MESSAGES_EVERY_S = 8 * HOUR_S
DAYS = 11


def hurried(config: Config) -> Config:
    """Keys sign for a week, and nothing is under way for long."""
    dkim = msgspec.structs.replace(config.dkim, rotation_days=7, expires_days=1)
    queue = msgspec.structs.replace(config.queue, lifetime_s=DAY_S, lease_s=HOUR_S)
    return msgspec.structs.replace(config, dkim=dkim, queue=queue)


class Administrator:
    """Changes the zones as the node asks for, through the port `DnsUpdater`."""

    def __init__(self, lab: Lab) -> None:
        self.zones = lab.zones

    async def put_txt(self, name: str, values: Any, ttl_s: int) -> None:
        for value in values:
            strings = " ".join(f'"{value[at : at + 255]}"' for at in range(0, len(value), 255))
            self.zones.add(name, "TXT", strings, ttl_s=ttl_s)

    async def remove_txt(self, name: str, values: Any) -> None:
        self.zones.remove(name, "TXT")


# Issue 4: a DKIM key rotation under traffic with no failed verification.
def test_keys_rotate_while_mail_flows_and_every_message_passes() -> None:
    async def live(world: Any) -> None:
        async with Lab(Simulated(world), change=hurried) as lab:
            north = lab.nodes["north"]
            north.node.rotation.updater = Administrator(lab)
            sent = 0
            while world.clock.monotonic_s() < DAYS * DAY_S:
                reply = await lab.send(ADA, BOB)
                assert reply.startswith("250"), reply
                sent += 1
                await world.clock.sleep(MESSAGES_EVERY_S)
            messages = await lab.inbox(BOB, count=sent)
            keys = await north.store.read(lambda tx: domain_keys.keys(tx, "north.example"))
        selectors = set()
        for message in messages:
            results = message.partition(b"\r\n\r\n")[0].partition(b"Authentication-Results:")[2]
            signatures = message.count(b"\r\nDKIM-Signature:")
            assert results.count(b"dkim=pass") == signatures >= 1, results
            assert results.count(b"dkim=") == signatures, results
            selectors |= set(re.findall(rb"\bs=([a-z0-9-]+);", message))
        states = [key.state for key in keys]
        assert KeyState.SIGNING in states
        assert KeyState.REVOKED in states
        assert len(selectors) >= 2, "old keys and new ones have signed"

    run_virtual(live)
