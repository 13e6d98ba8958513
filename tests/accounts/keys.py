"""A DKIM key as it is when it was just made, without a store."""

from __future__ import annotations

from posthouse.accounts.domain_keys import ED25519, DomainKey, KeyState, generate_keys


def new_key(
    algorithm: str = ED25519,
    state: KeyState = KeyState.WAITING,
    *,
    selector: str = "e1",
) -> DomainKey:
    [new] = generate_keys((algorithm,), rsa_bits=2048)
    return DomainKey(
        id=1,
        domain="example.org",
        selector=selector,
        algorithm=algorithm,
        public=new.public,
        state=state,
        has_private=True,
        created_at=0,
        shown_at=None,
        ready_at=None,
        signs_at=None,
        retired_at=None,
        revoked_at=None,
    )
