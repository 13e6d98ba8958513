"""The certificate authority, over the `acme` library: the only module that imports it.

The library blocks, so each call runs on a thread of the `Workers` port; what takes time between
calls (waiting for the authority's checks) is awaited outside. Answers are bounded in size, errors
come as `OrderFailed` in plain words.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import requests
from acme import challenges, client, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.errors import Error as JoseError
from josepy.json_util import field
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC
from josepy.util import ComparableECKey
from requests.adapters import HTTPAdapter

from posthouse import __version__
from posthouse.kernel.errors import Fault, UserError
from posthouse.kernel.ports import Workers
from posthouse.tls.acme.folder import AcmeFolder
from posthouse.tls.acme.keys import new_key
from posthouse.tls.acme.options import Kind, Options
from posthouse.tls.acme.trouble import OrderFailed, cut, hint_for
from posthouse.tls.peers import BUNDLES

T = TypeVar("T")

CALL_S: Final = 30
"""For one HTTP exchange with the authority, until the next octet."""
ANSWER_OCTETS_MAX: Final = 1_048_576
NONCE_TRIES: Final = 5
"""The library tries a refused nonce twice; strict authorities refuse many (RFC 8555 §6.5)."""
ASK_AGAIN_S: Final = 21_600.0  # RFC 9773 §4.3.3
FINALIZE_S: Final = 90.0
NONSENSE: Final = (
    *(errors.Error, JoseError, ValueError, KeyError),
    *(TypeError, AttributeError, RecursionError),  # JSON of another shape than the library expects
)


class TLSALPN01Response(challenges.KeyAuthorizationChallengeResponse):
    """The library has left this challenge out since its version 3."""

    typ = "tls-alpn-01"


class TLSALPN01(challenges.KeyAuthorizationChallenge):
    """RFC 8737 §3."""

    response_cls = TLSALPN01Response
    typ = response_cls.typ

    def validation(self, account_key: JWK, **kwargs: Any) -> str:
        return self.key_authorization(account_key)


challenges.ChallengeResponse.register(TLSALPN01Response)
challenges.Challenge.register(TLSALPN01)


class _Replacing(messages.NewOrder):
    """RFC 9773 §5."""

    replaces: str | None = field("replaces", omitempty=True)


class _Client(client.ClientV2):
    """The library's, which cannot yet say what an order replaces."""

    replaces: str | None = None

    def _post(self, *args: Any, **kwargs: Any) -> requests.Response:
        if self.replaces is not None and args[0] == self.directory["newOrder"]:
            order = _Replacing(identifiers=args[1].identifiers, replaces=self.replaces)
            args = (args[0], order, *args[2:])
        return super()._post(*args, **kwargs)


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One name to be proved ours, and with what."""

    name: str
    kind: Kind
    token: str
    key_authorization: str
    inner: Any
    """The library's challenge and authorization."""

    @property
    def dns_text(self) -> str:
        """What dns-01 publishes (RFC 8555 §8.4)."""
        digest = hashlib.sha256(self.key_authorization.encode("ascii")).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """When the authority wants a certificate renewed (RFC 9773 §4.2)."""

    start: dt.datetime
    end: dt.datetime
    explanation: str = ""


class _RenewalInfo(msgspec.Struct, frozen=True, rename="camel"):
    suggested_window: Window
    explanation_url: str = msgspec.field(default="", name="explanationURL")


class _Bounded(HTTPAdapter):
    """Reads no more than `ANSWER_OCTETS_MAX`, and remembers when to come back."""

    retry_after = ""

    def send(self, request: Any, stream: bool = False, **more: Any) -> requests.Response:  # type: ignore[override]
        response = super().send(request, stream=True, **more)
        octets = response.raw.read(ANSWER_OCTETS_MAX + 1, decode_content=True)
        response.close()
        if len(octets) > ANSWER_OCTETS_MAX:
            raise requests.ConnectionError("the answer is too large")
        response._content = octets
        if not response.ok:
            self.retry_after = response.headers.get("Retry-After", "")
        return response


class Authority:
    """One account at one authority, for the length of one order or question."""

    def __init__(self, options: Options, folder: AcmeFolder, workers: Workers) -> None:
        self._options = options
        self._folder = folder
        self._workers = workers
        self._adapter = _Bounded()
        self._key: JWK
        self._client: _Client

    async def open(self, *, with_account: bool = True) -> None:
        """Read the directory and, for orders, find or make the account (RFC 8555 §7.1.1, §7.3)."""
        await self._run(self._open_directory)
        if with_account:
            await self._run(self._open_account)

    async def order(self, csr: bytes, *, replaces: bytes | None = None) -> Any:
        """RFC 8555 §7.4. `replaces` is the certificate that a renewal takes the place of, as PEM.

        Returns the library's order, for `proofs` and `finish`.
        """
        return await self._run(lambda: self._order(csr, replaces))

    def proofs(self, order: Any, kind: Kind) -> list[Proof]:
        """What is still to be proved.

        Raises:
            OrderFailed: a name cannot be proved in this way.
        """
        return list(self._proofs(order, kind))

    async def answer(self, proof: Proof) -> None:
        """Tell the authority that it may look (RFC 8555 §7.5.1)."""
        challenge, _ = proof.inner
        response = challenge.chall.response(self._key)
        await self._run(lambda: self._client.answer_challenge(challenge, response), proof=proof)

    async def is_valid(self, proof: Proof) -> bool:
        """Whether the authority has seen it; False while it is still at it.

        Raises:
            OrderFailed: it looked and was not convinced.
        """
        _, authorization = proof.inner
        found, _ = await self._run(lambda: self._client.poll(authorization), proof=proof)
        status = found.body.status
        if status == messages.STATUS_PENDING or status == messages.STATUS_PROCESSING:
            return False
        if status == messages.STATUS_VALID:
            return True
        raise self._refused(found.body, proof)

    async def finish(self, order: Any) -> bytes:
        """Have the certificate issued and fetch it with its chain, as PEM."""
        deadline = dt.datetime.now() + dt.timedelta(seconds=FINALIZE_S)  # noqa: DTZ005  its wish
        done = await self._run(lambda: self._client.finalize_order(order, deadline))
        return str(done.fullchain_pem).encode("utf-8")

    async def window(self, leaf: x509.Certificate) -> tuple[Window | None, float]:
        """What the authority says about renewing, and after how many seconds to ask again; None
        where it has no such service or says nothing that makes sense (RFC 9773 §4.2, §4.3.3)."""
        identifier = certificate_id(leaf)
        base = self._directory_entry("renewalInfo")
        if base is None or identifier is None:
            return None, ASK_AGAIN_S
        try:
            response = await self._run(lambda: self._client.net.get(f"{base}/{identifier}"))
            info = msgspec.json.decode(response.content, type=_RenewalInfo)
        except (OrderFailed, msgspec.MsgspecError):
            return None, ASK_AGAIN_S
        window = info.suggested_window
        if window.start.tzinfo is None or window.end.tzinfo is None or window.end <= window.start:
            return None, ASK_AGAIN_S
        window = msgspec.structs.replace(window, explanation=info.explanation_url[:500])
        after = response.headers.get("Retry-After", "")
        return window, float(after) if after.isdigit() and len(after) < 9 else ASK_AGAIN_S

    # --- on the thread ---

    def _open_directory(self) -> None:
        options = self._options
        self._key = self._account_key()
        network = client.ClientNetwork(
            self._key,
            alg=ES256,
            verify_ssl=_roots(options.ca_file),
            user_agent=f"Posthouse/{__version__}",
            timeout=CALL_S,
        )
        network.session.adapters.clear()
        network.session.mount("https://", self._adapter)  # and no other
        directory = client.ClientV2.get_directory(options.directory, network)
        self._client = _Client(directory, network)

    def _account_key(self) -> JWK:
        """The account's key, made at the first order: another one than any certificate's."""
        name = hashlib.sha256(self._options.directory.encode()).hexdigest()[:16]
        pem = self._folder.account_key(name)
        if pem is None:
            pem = new_key()
            self._folder.put_account_key(name, pem)
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except ValueError as error:
            raise UserError(
                f"the account key {name}.pem in {self._folder.root}/.accounts is damaged",
                hint="restore it, or remove it to get a new account",
            ) from error
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return JWKEC(key=ComparableECKey(key))

    def _open_account(self) -> None:
        options = self._options
        if not options.accepts_terms:
            terms = getattr(self._client.directory.meta, "terms_of_service", None)
            raise OrderFailed(
                "the authority's terms are not accepted",
                hint=f"read {terms or 'them'}, then set acme.accepts_terms = true",
            )
        contact = tuple(f"mailto:{address}" for address in options.contact)
        new = messages.NewRegistration.from_data(
            contact=contact, terms_of_service_agreed=True, external_account_binding=self._binding()
        )
        try:
            self._client.new_account(new)
        except errors.ConflictError as known:
            account = messages.RegistrationResource(
                body=messages.Registration(), uri=known.location
            )
            account = self._client.query_registration(account)
            if contact and set(account.body.contact) != set(contact):
                update = messages.Registration.from_data(contact=contact)
                self._client.update_registration(account, update)

    def _binding(self) -> dict[str, Any] | None:
        """RFC 8555 §7.3.4."""
        options = self._options
        if options.eab_key is None:
            return None
        return messages.ExternalAccountBinding.from_data(
            self._key.public_key(),
            options.eab_key_id,
            options.eab_key.reveal(),
            self._client.directory,
        )

    def _order(self, csr: bytes, replaces: bytes | None) -> Any:
        identifier = None
        if replaces is not None and self._directory_entry("renewalInfo") is not None:
            identifier = certificate_id(x509.load_pem_x509_certificate(replaces))
        if identifier is None:
            return self._client.new_order(csr)
        try:
            self._client.replaces = identifier
            return self._client.new_order(csr)
        except (errors.ConflictError, messages.Error):  # replaced already, or not by this account
            self._client.replaces = None
            return self._client.new_order(csr)
        finally:
            self._client.replaces = None

    def _directory_entry(self, name: str) -> str | None:
        try:
            return str(self._client.directory[name])
        except KeyError:
            return None

    def _proofs(self, order: Any, kind: Kind) -> Iterator[Proof]:
        for authorization in order.authorizations:
            body = authorization.body
            name = str(body.identifier.value)
            if body.status == messages.STATUS_VALID:
                continue  # an earlier order proved it (RFC 8555 §7.1.3)
            for challenge in body.challenges:
                if challenge.chall.typ == kind.value:
                    break
            else:
                offered = ", ".join(sorted({str(item.chall.typ) for item in body.challenges}))
                raise OrderFailed(
                    f"the authority does not offer {kind.value} for {name}, only {cut(offered)}",
                    hint="set acme.challenge to one of them",
                )
            yield Proof(
                name=name,
                kind=kind,
                token=challenge.chall.encode("token"),
                key_authorization=challenge.chall.key_authorization(self._key),
                inner=(challenge, authorization),
            )

    def _refused(self, body: Any, proof: Proof) -> OrderFailed:
        """The authority's verdict on a proof, in words."""
        for challenge in body.challenges:
            if challenge.error is not None:
                return self._told(challenge.error, proof)
        return OrderFailed(f"the authority ended the order for {proof.name} without saying why")

    def _told(self, error: messages.Error, proof: Proof | None) -> OrderFailed:
        """An RFC 8555 §6.7 error, with those inside it (§6.7.1)."""
        name = proof.name if proof is not None else ""
        if error.identifier is not None:
            name = str(error.identifier.value)
        words = [error.detail or error.title or error.description or str(error.typ)]
        words += [item.detail or str(item.typ) for item in error.subproblems or ()]
        said = " / ".join(words)
        about = f"{name}: " if name else ""
        code = error.code or str(error.typ).rpartition(":")[2]
        way = proof.kind.value if proof else ""
        hint = hint_for(error.code, name or "the name", way, said=said)
        return OrderFailed(
            f"{about}the authority says: {cut(said)} ({cut(code)})",
            hint=hint,
            retry_after_s=_seconds(self._adapter.retry_after),
        )

    async def _run(self, work: Callable[[], T], *, proof: Proof | None = None) -> T:
        """On a thread, with nonces that were refused taken anew and errors in words."""
        for _ in range(NONCE_TRIES):
            try:
                return await self._workers.run(work)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise self._told(error, proof) from error
            except errors.IssuanceError as error:
                raise self._told(error.error, proof) from error
            except errors.TimeoutError as error:
                raise OrderFailed(f"the authority took longer than {FINALIZE_S:g} s") from error
            except requests.RequestException as error:
                raise self._unreachable(error) from error
            except Fault as error:
                raise OrderFailed(f"the authority takes too long: {error}") from error
            except NONSENSE as error:
                raise OrderFailed(
                    f"the authority's answer makes no sense: {cut(repr(error))}",
                    hint="is acme.directory the address of an ACME directory?",
                ) from error
        raise OrderFailed("the authority refuses one nonce after the other")

    def _unreachable(self, error: requests.RequestException) -> OrderFailed:
        url = self._options.directory
        if isinstance(error, requests.exceptions.SSLError):
            return OrderFailed(
                f"the certificate of {url} is not trusted",
                hint="check this machine's clock and root certificates; for an authority of your"
                " own set acme.ca_file",
            )
        kind = "in time" if isinstance(error, requests.Timeout) else f"({cut(_cause(error))})"
        return OrderFailed(
            f"{url} does not answer {kind}", hint="it is tried again; is the way out open?"
        )


def certificate_id(leaf: x509.Certificate) -> str | None:
    """What RFC 9773 §4.1 calls a certificate by; None for one without the extension it needs."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        return None
    authority = extension.value.key_identifier
    if authority is None:
        return None
    serial = leaf.serial_number.to_bytes(leaf.serial_number.bit_length() // 8 + 1)  # DER's sign bit
    parts = (base64.urlsafe_b64encode(part).rstrip(b"=") for part in (authority, serial))
    return b".".join(parts).decode("ascii")


def _roots(ca_file: Path | None) -> Any:
    """What `requests` verifies with: our file, the system's roots, or those it brings along."""
    if ca_file is not None:
        return str(ca_file)
    candidates = (ssl.get_default_verify_paths().cafile, *BUNDLES)
    return next((path for path in candidates if path and Path(path).exists()), True)


def _cause(error: BaseException) -> str:
    """The innermost reason, which is the one that says something."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # without the number
    return str(error) or type(error).__name__


def _seconds(text: str) -> float | None:
    """Retry-After in its form of seconds (RFC 9110 §10.2.3)."""
    return float(text) if text.isdigit() and len(text) < 9 else None
