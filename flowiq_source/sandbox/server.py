"""A FlowIQ API on loopback, as the vendor's documents describe it, over a `World`.

Source: quick start, API reference and OpenAPI file; where they differ, `dialect` decides.
"""

import re
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flowiq_source.sandbox.actions import ACTIONS, Params
from flowiq_source.sandbox.limits import RateLimit
from flowiq_source.sandbox.replies import Refusal, Reply, documented, reply_json
from flowiq_source.sandbox.world import World

__all__ = ["TENANT", "TOKEN", "RateLimit", "Reply", "Sandbox", "Tenant", "reply_json"]

TOKEN = "fiq_sandbox"
TENANT = "sandbox"

Intercept = Callable[[Params], Reply | None]
"""Sees every request first: may change the world, and answers in the sandbox's place or not."""


@dataclass
class Tenant:
    """An organisation: the slug that is its tenant id, and what it has for itself."""

    slug: str
    world: World = field(default_factory=World)
    token: str = ""
    rate_limit: RateLimit | None = field(default_factory=RateLimit)

    def __post_init__(self) -> None:
        self.token = self.token or f"fiq_{self.slug}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that stops waiting is part of the play.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Sandbox:
    """The server, in a thread of its own: `with Sandbox() as sandbox: sandbox.url`.

    Unless it is `limited`, it lets every request through. `tenant_required`
    False is the reference's newest examples, which send no tenant: the token
    decides. `tenants` are served beside its own, each to its own token.
    `requests` holds the parameters of every request that came.
    """

    def __init__(
        self,
        world: World | None = None,
        *,
        dialect: str = "reference",
        port: int = 0,
        token: str = TOKEN,
        tenant: str = TENANT,
        tenant_required: bool = True,
        limited: bool = True,
        tenants: Iterable[Tenant] = (),
    ) -> None:
        self.world = world or World()
        self.dialect = dialect
        self.token, self.tenant, self.tenant_required = token, tenant, tenant_required
        self.other_tenants = {"another-organisation"}
        self.rate_limit = RateLimit() if limited else None
        self.tenants = [t if limited else replace(t, rate_limit=None) for t in tenants]
        self.intercept: Intercept | None = None
        self.requests: list[Params] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Sandbox":
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        sandbox = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Headers and body are two writes; with Nagle's algorithm each answer takes 40 ms.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                authorization = self.headers.get("Authorization", "")
                params = dict(parse_qsl(url.query, keep_blank_values=True))
                self._send(sandbox.answer(url.path, params, authorization))

            def do_POST(self) -> None:
                url = urlsplit(self.path)
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._send(sandbox.control(url.path, dict(parse_qsl(url.query))))

            def _send(self, reply: Reply) -> None:
                if reply.delay_s:
                    time.sleep(reply.delay_s)
                if reply.status:
                    self.send_response_only(reply.status)
                    for name, value in ({"Date": self.date_time_string()} | reply.headers).items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(reply.body)))
                    self.end_headers()
                    self.wfile.write(reply.body[: reply.cut_at])
                self.close_connection = not reply.status or reply.cut_at is not None

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def control(self, path: str, params: Params) -> Reply:
        """`POST /sandbox/advance?hours=24` moves every clock; the real API has no such thing."""
        hours = params.get("hours", "")
        if path != "/sandbox/advance" or not re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", hours):
            return reply_json(404, {"success": False, "error": "POST /sandbox/advance?hours=24"})
        with self._lock:
            for tenant in self._all_tenants():
                tenant.world.advance(timedelta(hours=float(hours)))
            return reply_json(200, {"success": True, "now": self.world.now.isoformat()})

    def answer(self, path: str, params: Params, authorization: str) -> Reply:
        """The answer to one GET."""
        with self._lock:
            self.requests.append(params)
            asking = self._asking(authorization)
            limit = asking.rate_limit if asking else self.rate_limit
            allowed, headers = limit.take() if limit else (True, {})
            try:
                if not allowed:
                    raise documented("too many")
                reply = (self.intercept and self.intercept(params)) or self._route(
                    path, params, authorization
                )
            except Refusal as refusal:
                reply = refusal.reply
            return replace(reply, headers=headers | reply.headers)

    def usual_answer(self, params: Params) -> Reply:
        """What the sandbox would answer by itself, for an intercept to change."""
        return self._act(self.world, params)

    # The name under which tests of other rooms know it.
    _messages = usual_answer

    def _all_tenants(self) -> list[Tenant]:
        return [Tenant(self.tenant, self.world, self.token, self.rate_limit), *self.tenants]

    def _asking(self, authorization: str) -> Tenant | None:
        """The tenant whose token this is."""
        tokens = {f"Bearer {tenant.token}": tenant for tenant in self._all_tenants()}
        return tokens.get(authorization)

    def _route(self, path: str, params: Params, authorization: str) -> Reply:
        asking = self._asking(authorization)
        if asking is None:
            scheme, _, token = authorization.partition(" ")
            raise documented("invalid token" if scheme == "Bearer" and token else "no token")
        if path != "/conversations":
            raise documented("no endpoint")
        self._check_tenant(asking, params.get("tenantId"))
        return self._act(asking.world, params)

    def _act(self, world: World, params: Params) -> Reply:
        action = ACTIONS.get(params.get("action", "conversation-messages"))
        if action is None:
            raise documented("invalid action")
        return action(world, self.dialect, params)

    def _check_tenant(self, asking: Tenant, wanted: str | None) -> None:
        if not wanted and self.tenant_required:
            raise documented("no tenant")
        if not wanted or wanted == asking.slug:
            return
        if wanted in self.other_tenants | {tenant.slug for tenant in self._all_tenants()}:
            raise documented("mismatch")
        raise documented(
            "no organisation", message=f"No organization found with tenantId: {wanted}"
        )
