"""From the checked config to where the node key lies and how DKIM keys are made and rotated."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from posthouse.accounts import rotation
from posthouse.config.authentication import DkimKeys
from posthouse.config.schema import Config
from posthouse.config.setting import DAY_S
from posthouse.mailauth.dkim.grammar import ED25519, RSA

NODE_KEY_NAME: Final = "node.key"
ALGORITHMS: Final = {
    DkimKeys.BOTH: (RSA, ED25519),
    DkimKeys.RSA: (RSA,),
    DkimKeys.ED25519: (ED25519,),
}


def node_key_path(config: Config) -> Path:
    return Path(config.dkim.key_file or Path(config.node.data_folder, NODE_KEY_NAME))


def rotation_options(config: Config) -> rotation.Options:
    dkim = config.dkim
    return rotation.Options(
        algorithms=ALGORITHMS[dkim.keys],
        rsa_bits=dkim.rsa_bits,
        is_rotated=dkim.is_rotated,
        rotation_s=dkim.rotation_days * DAY_S,
        lifetime_s=config.queue.lifetime_s + dkim.expires_days * DAY_S,
    )
