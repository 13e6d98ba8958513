"""A small ACME server: what pebble lacks (ARI, replaced certificates) and does not do (lie)."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

Answer = tuple[int, dict[str, str], bytes]


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    kind = "application/problem+json" if status >= 400 else "application/json"
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return status, {"Content-Type": kind, **named}, json.dumps(value).encode()


def problem(code: str, detail: str, status: int = 403, **headers: str) -> Answer:
    body = {"type": f"urn:ietf:params:acme:error:{code}", "detail": detail}
    return as_json(body, status, **headers)


class SmallAuthority:
    """`answers` maps a path to what is answered there; `requests` keeps the payloads by path."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert("127.0.0.1")
        self.ca_file = folder / "small-ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        certificate, key = folder / "small-cert.pem", folder / "small-key.pem"
        leaf.cert_chain_pems[0].write_to_path(str(certificate))
        leaf.private_key_pem.write_to_path(str(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(certificate), str(key))
        self.requests: dict[str, list[Any]] = {}
        self.answers: dict[str, Callable[[Any], Answer]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.base = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.answers |= {
            "/dir": lambda _: as_json(self.directory),
            "/nonce": lambda _: (200, {}, b""),
            "/account": lambda _: as_json({"status": "valid"}, 201, Location=f"{self.base}/me"),
        }
        self.directory: dict[str, Any] = {
            "newNonce": f"{self.base}/nonce",
            "newAccount": f"{self.base}/account",
            "newOrder": f"{self.base}/order",
            "meta": {"termsOfService": "https://ca.example/terms"},
        }

    @property
    def url(self) -> str:
        return f"{self.base}/dir"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        small = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                payload: Any = None
                if length:
                    text = json.loads(self.rfile.read(length))["payload"]
                    octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
                    payload = json.loads(octets) if octets else None
                small.requests.setdefault(self.path, []).append(payload)
                answer = small.answers.get(self.path, lambda _: (404, {}, b"nothing here"))
                status, headers, body = answer(payload)
                self.send_response(status)
                for name, value in {"Replay-Nonce": "bm9uY2Vub25jZQ", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_POST = do_HEAD = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        return Handler
