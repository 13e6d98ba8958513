"""Mail that arrives signed or encrypted, opened for the accounts that want it (`MailPolicy.open`).

Signatures are verified and what is encrypted to a key kept here is decrypted, in a process of its
own with bounds. The result is a field Authentication-Results about the whole message, findings for
the decision record, and for what was decrypted the message in the open. What cannot be opened is
stored as it came, or refused where the policy says so.
"""

from __future__ import annotations

import binascii
import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import msgspec

from posthouse.accounts.mail_keys import note_revoked
from posthouse.accounts.mail_policy import MailPolicy, Mode
from posthouse.accounts.policies import Policies
from posthouse.accounts.sealing import NodeKey
from posthouse.gateway.learning import (
    Learnt,
    learn,
    learn_autocrypt,
    revoked_signers,
)
from posthouse.gateway.opening_keys import OpeningKeys, opening_keys
from posthouse.gateway.options import Options
from posthouse.gateway.outgoing import KeyFinder
from posthouse.gateway.revocations import Papers, Revocations
from posthouse.kernel.errors import Fault
from posthouse.kernel.finding import Finding
from posthouse.kernel.ids import AccountId
from posthouse.kernel.ports import Clock, Isolated, IsolationFailed, Workers
from posthouse.mailauth import authres
from posthouse.message import mime
from posthouse.message.address_list import parse_address_list
from posthouse.message.fields import read_section
from posthouse.message.mime import Part
from posthouse.mimesec import explain
from posthouse.mimesec.child import OpenRequest, open_isolated
from posthouse.mimesec.entity import kept
from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.layers import layer_at
from posthouse.mimesec.opening import SECTIONS_MAX, Opened, SectionKind, Summary
from posthouse.mimesec.pgp import autocrypt
from posthouse.store.transaction import Store, Transaction

AUTHORS_MAX: Final = 5
"""Authors whose keys are looked up."""
OPEN_TIMES_MAX: Final = 4
"""Times `Options.open_s` for all accounts that get one message: then no further one is tried."""
LOOKED_THROUGH_MAX: Final = 20
"""Times that all of a message is looked through for delimiters; more multiparts around one part
than any program writes."""
INLINE_OCTETS: Final = 64 * 1024
"""What is larger is looked through by a worker."""
_OPENPGP: Final = b"-----BEGIN PGP "
# What every protected message has in it somewhere, but where an encoding hides it; in lower case,
# as that is several times as fast as one pattern that ignores case.
_PROTECTED: Final = (_OPENPGP.lower(), b"pkcs7-", b".p7m", b".p7z")
_MULTIPART: Final = re.compile(rb"multipart\s*+/\s*+(?:signed|encrypted)")
_CLOSED: Final = re.compile(
    rb"multipart\s*+/\s*+encrypted|-----begin pgp message|pkcs7-mime|\.p7[mz]"
)
_BASE64: Final = re.compile(
    rb"(?:^[A-Za-z0-9+/]{4,998}+={0,2}[ \t]*+\r?+(?:\n|\Z))++", re.MULTILINE
)
# What hides them: a transfer encoding, or one of a file's name.
_ENCODED: Final = re.compile(
    rb"content-transfer-encoding[ \t]*+:\s*+(?:base64|quoted-printable|(?:x-)?uu)|name\*|=\?"
)
# Messages that are not looked into as message/rfc822 is.
_OTHER_MESSAGES: Final = frozenset({b"global", b"news", b"partial"})
_BESIDE: Final = {
    SectionKind.PART: "it has an encrypted part beside others",
    SectionKind.TEXT: "it has encrypted text beside other text",
    SectionKind.FORWARDED: "it forwards an encrypted message",
}


class OpenedCopy(msgspec.Struct, frozen=True, kw_only=True):
    """What one account gets of a message that is protected."""

    octets: bytes
    """Decrypted, without fields that claim to be ours; as it came where nothing was."""
    is_changed: bool
    """Whether they are others than those that came."""
    fields: bytes = b""
    """Authentication-Results about it, to be put in front."""
    findings: tuple[Finding, ...] = ()
    refusal: str = ""
    """Why the account does not take it, in words; "" when it does."""
    is_for_now: bool = False
    """Of the refusal: the next try may do better."""
    closed_part: str = ""
    """Why not all of it is open although the message is, in words: `Mode.ALWAYS` refuses it."""


class Incoming:
    """One for each process."""

    def __init__(
        self,
        options: Options,
        *,
        store: Store,
        policies: Policies,
        node_key: NodeKey,
        isolated: Isolated,
        clock: Clock,
        workers: Workers,
        revocations: Revocations,
        finder: KeyFinder,
        without_forged: Callable[[bytes], bytes],
    ) -> None:
        """
        Args:
            finder: for the keys of authors that nobody has seen yet.
            without_forged: takes fields out of a message that claim to be ours: what was encrypted
                may hold some that nobody saw before.
        """
        self.options = options
        self._store = store
        self._policies = policies
        self._node_key = node_key
        self._isolated = isolated
        self._clock = clock
        self._workers = workers
        self._revocations = revocations
        self._finder = finder
        self._without_forged = without_forged

    async def open(
        self,
        accounts: Sequence[AccountId],
        octets: bytes,
        *,
        is_author_proven: bool,
        is_autocrypt_proven: bool = False,
    ) -> Mapping[AccountId, OpenedCopy]:
        """What each of the accounts gets that wants protected mail opened; nothing where the
        message is not protected.

        Args:
            octets: the message without our trace fields.
            is_author_proven: DMARC passed, or the author logged in: From is nobody else's.
            is_autocrypt_proven: the Autocrypt field is the author's, too.

        Raises:
            Fault: the store cannot be read.
        """
        if not self._policies.is_any or not accounts:
            return {}
        is_teaching = is_autocrypt_proven and self.options.is_learning and _has_key(octets)
        is_looked_at = await self._is_protected(octets)
        if not is_looked_at and not is_teaching:
            return {}
        policies = dict(zip(accounts, await self._policies.of(accounts), strict=True))
        wanting = [one for one in accounts if policies[one].open is not Mode.NEVER]
        if wanting and is_teaching:
            await self._keep(
                await self._workers.run(partial(learn_autocrypt, octets, at=self._clock.now()))
            )
        if not wanting or not is_looked_at:
            return {}
        copies = await self._open_each(wanting, octets, is_author_proven)
        return {one: _as_wanted(copy, policies[one]) for one, copy in copies.items()}

    async def _open_each(
        self, accounts: Sequence[AccountId], octets: bytes, is_author_proven: bool
    ) -> dict[AccountId, OpenedCopy]:
        """Opened once for all where no key of theirs is needed for it, and where it met a bound, as
        it would again; otherwise once for each who has other keys, while there is time."""
        authors = authors_of(octets)
        ends_s = self._clock.monotonic_s() + self.options.open_s * OPEN_TIMES_MAX
        copies: dict[AccountId, OpenedCopy] = {}
        known: dict[tuple[int, ...], OpenedCopy] = {}
        for_all: OpenedCopy | None = None
        for account in accounts:
            read = partial(opening_keys, account=account, authors=authors, node_key=self._node_key)
            keys = await self._store.read(read)
            # Who has no key of their own gets what the others without one get.
            copy = known.get(keys.own_ids, for_all)
            if copy is None and self._clock.monotonic_s() >= ends_s:
                copy = _not_opened(octets, "it took too long for others who get it")
            elif copy is None:
                copy, is_for_all = await self._opened(octets, keys, read, authors, is_author_proven)
                known[keys.own_ids] = copy
                for_all = copy if is_for_all else None
            copies[account] = copy
        return copies

    async def _is_protected(self, octets: bytes) -> bool:
        if len(octets) <= INLINE_OCTETS:
            return is_protected(octets)
        return await self._workers.run(partial(is_protected, octets))

    async def _opened(
        self,
        octets: bytes,
        keys: OpeningKeys,
        read: Callable[[Transaction], OpeningKeys],
        authors: Sequence[str],
        is_author_proven: bool,
    ) -> tuple[OpenedCopy, bool]:
        """With it, whether all others get the same, whatever keys they have."""
        try:
            opened, papers = await self._open_with(keys, octets)
            if _is_asked_about(opened, keys, authors, is_author_proven=is_author_proven):
                await self._finder.find_each(authors)
                found = await self._store.read(read)
                if found != keys:
                    opened, papers = await self._open_with(found, octets)
        except IsolationFailed as error:
            return _not_opened(octets, str(error), is_for_now=error.is_for_now), True
        if papers:
            with contextlib.suppress(Fault):
                signers = await self._workers.run(partial(revoked_signers, opened))
                work = partial(note_revoked, fingerprints=papers.revoked, unknown=signers)
                await self._store.submit(work)
        if self.options.is_learning:
            teach = partial(learn, opened, roots=self.options.roots, at=self._clock.now())
            await self._keep(await self._workers.run(teach))
        closed = await self._workers.run(partial(closed_part, opened))
        if is_decrypted(opened):
            shown = await self._workers.run(partial(kept, opened.octets))
            opened = msgspec.structs.replace(opened, octets=shown)
        return self._copy(octets, opened, closed), not _needs_keys(opened)

    async def _open_with(self, keys: OpeningKeys, octets: bytes) -> tuple[Opened, Papers]:
        return await open_with(
            keys,
            octets,
            self.options,
            isolated=self._isolated,
            revocations=self._revocations,
            at=self._clock.now(),
        )

    def _copy(self, octets: bytes, opened: Opened, closed: str) -> OpenedCopy:
        whole = opened.whole
        is_changed = is_decrypted(opened)
        findings = explain.findings(opened, is_shown=is_changed)
        about_all = [one for one in findings if one.name in explain.METHODS.values()]
        return OpenedCopy(
            octets=self._without_forged(opened.octets) if is_changed else octets,
            is_changed=is_changed,
            fields=authres.render(self.options.host, about_all) if about_all else b"",
            findings=findings,
            refusal=(whole.reason if whole is not None else "")
            if opened.summary is Summary.BROKEN
            else "",
            closed_part=closed,
        )

    async def _keep(self, learnt: Learnt) -> None:
        """As well as can be: mail is not held up by what it teaches."""
        with contextlib.suppress(Fault):
            if learnt and not await self._store.read(learnt.is_known):
                await self._store.submit(learnt)


async def open_with(
    keys: OpeningKeys,
    octets: bytes,
    options: Options,
    *,
    isolated: Isolated,
    revocations: Revocations,
    at: datetime,
) -> tuple[Opened, Papers]:
    """Verify and decrypt a message in a process of its own, and where a signature is valid so far,
    ask whether its certificates were revoked. Raises IsolationFailed."""

    async def opened_with(papers: Papers) -> Opened:
        return await _opened_once(keys, octets, options, papers, isolated=isolated, at=at)

    opened = await opened_with(Papers())
    papers = await revocations.of(opened, options.roots, at)
    return (await opened_with(papers) if papers else opened), papers


async def _opened_once(
    keys: OpeningKeys,
    octets: bytes,
    options: Options,
    papers: Papers,
    *,
    isolated: Isolated,
    at: datetime,
) -> Opened:
    request = OpenRequest(
        message=octets,
        at=at,
        smime=msgspec.structs.replace(
            keys.smime,
            roots=options.roots,
            crls=papers.crls,
            ocsp=papers.ocsp,
            revoked=(*keys.smime.revoked, *papers.revoked),
        ),
        pgp=keys.pgp,
    )
    return await open_isolated(
        isolated,
        request,
        timeout_s=options.open_s,
        memory_octets=options.memory_octets,
        result_octets=options.result_octets_max,
    )


def _is_asked_about(
    opened: Opened, keys: OpeningKeys, authors: Sequence[str], *, is_author_proven: bool
) -> bool:
    """Whether to ask the author's domain for keys: the one that signed all of it is not at hand or
    nobody vouches for it, and the message is really from there, as else strangers would have us
    ask anybody; or it is one that the domain once showed, and may show no more."""
    whole = opened.whole
    if whole is None or len(authors) != 1:
        return False
    missing = (SignatureResult.NO_KEY, SignatureResult.UNTRUSTED)
    return any(
        is_author_proven if one.result in missing else one.key in keys.from_places
        for one in whole.signatures
    )


def _needs_keys(opened: Opened) -> bool:
    """Whether anything of the message is encrypted: what is signed only nobody's key opens."""
    return any(one.encryptions or one.summary is Summary.BROKEN for one in opened.sections)


def _not_opened(octets: bytes, why: str, *, is_for_now: bool = True) -> OpenedCopy:
    reason = f"it could not be opened: {why}"
    finding = Finding(name=explain.ENCRYPTION, result="closed", reason=reason)
    return OpenedCopy(
        octets=octets,
        is_changed=False,
        findings=(finding,),
        refusal=reason,
        is_for_now=is_for_now,
    )


def is_decrypted(opened: Opened) -> bool:
    """Whether the message is stored as it was opened: what is signed only stays as it came, so that
    its owner can verify it, too."""
    whole = opened.whole
    is_open = opened.summary is not Summary.BROKEN
    return whole is not None and bool(whole.encryptions) and is_open


def is_protected(octets: bytes) -> bool:
    """Whether anything in a message may be signed or encrypted. Linear: encoded parts are looked
    into only where there are any, each once."""
    lower = octets.lower()
    if any(one in lower for one in _PROTECTED) or _MULTIPART.search(lower) is not None:
        return True
    if _ENCODED.search(lower) is None:
        return False
    return any(_is_protected_part(part) for part in mime.scan(octets).walk())


def _is_protected_part(part: Part) -> bool:
    if part.section.is_cut or _is_unread(part):
        return True
    if part.maintype == b"text" and part.subtype == b"plain":
        return _OPENPGP in mime.content(part, octets_max=max(part.size_octets, 1))
    return layer_at(part) is not None  # by a file name that is encoded


def closed_part(opened: Opened) -> str:
    """What stays closed although the message is open, in words. What is encrypted beside other
    things stays apart from them, also where its key is here: in one message with them it could be
    sent elsewhere by what others wrote (EFAIL). Linear; for a worker."""
    root = mime.scan(opened.octets)
    # What a notice brings back was sent so by whoever gets the notice.
    is_report = (root.maintype, root.subtype) == (b"multipart", b"report")
    for one in opened.sections:
        if is_report and one.kind is SectionKind.FORWARDED:
            continue
        if one.kind in _BESIDE and (one.encryptions or one.summary is Summary.BROKEN):
            return (
                f"{_BESIDE[one.kind]}, which is not opened here, as what stands around it could"
                " give its text away"
            )
    if len(opened.sections) >= SECTIONS_MAX:
        return f"it has more than {SECTIONS_MAX} protected parts, and no more are looked at"
    parts = list(root.own_parts() if is_report else root.walk())
    is_misread = any(_is_named_encrypted(part) and layer_at(part) is None for part in parts)
    if is_misread or (_is_doubtful(parts) and _may_hold_closed(opened.octets, parts)):
        return "it has a part that says it is encrypted, in a form that can be read in several ways"
    return ""


def _may_hold_closed(octets: bytes, parts: Sequence[Part]) -> bool:
    """Whether something encrypted may be in what nobody here has looked at: its name is there, in
    the open or encoded, wherever others divide the message. Linear."""
    if _CLOSED.search(octets.lower()) or any(layer_at(part) is not None for part in parts):
        return True
    if _CLOSED.search(binascii.a2b_qp(octets).lower()):
        return True
    return any(_CLOSED.search(_plain(run[0]).lower()) for run in _BASE64.finditer(octets))


def _plain(run: bytes) -> bytes:
    """Of lines of base64, as far as they are."""
    whole = run.translate(None, b" \t\r\n=")
    return binascii.a2b_base64(whole[: len(whole) // 4 * 4])


def _is_doubtful(parts: Sequence[Part]) -> bool:
    """Whether others may see parts that nobody here has looked at."""
    if any(part.section.has_stray_lines or _is_unread(part) for part in parts):
        return True
    multiparts = [part for part in parts if part.children]
    # Each is looked through once more, which is too much where many are inside each other.
    octets = sum(part.size_octets for part in multiparts)
    is_nested = octets > LOOKED_THROUGH_MAX * parts[0].size_octets
    return is_nested or any(part.has_odd_delimiters for part in multiparts)


def _is_unread(part: Part) -> bool:
    is_other = part.maintype == b"message" and part.subtype in _OTHER_MESSAGES
    return part.is_ambiguous or part.is_opaque or is_other


def _is_named_encrypted(part: Part) -> bool:
    if part.maintype == b"multipart":
        return part.subtype == b"encrypted"
    is_pkcs7 = part.maintype == b"application" and part.subtype in (b"pkcs7-mime", b"x-pkcs7-mime")
    kind = (part.parameters.raw(b"smime-type") or b"").lower()
    return is_pkcs7 and (part.is_ambiguous or kind not in (b"certs-only", b"signed-data"))


def _as_wanted(copy: OpenedCopy, policy: MailPolicy) -> OpenedCopy:
    if policy.open is Mode.ALWAYS:
        return msgspec.structs.replace(copy, refusal=copy.refusal or copy.closed_part)
    return msgspec.structs.replace(copy, refusal="", is_for_now=False)


def _has_key(octets: bytes) -> bool:
    return autocrypt.FIELD in read_section(octets)


def authors_of(octets: bytes) -> tuple[str, ...]:
    """The addresses of From, those that are looked at."""
    value = read_section(octets).raw(b"from")
    if value is None:
        return ()
    listed = parse_address_list(value, addresses_max=AUTHORS_MAX)
    return tuple(f"{one.local_part}@{one.domain}" for one in listed.addresses())
