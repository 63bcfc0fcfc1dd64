"""A FlowIQ API on loopback, as the vendor's documents describe it, over a `World`.

Source: quick start, API reference and OpenAPI file; where they differ, `dialect` decides.
"""

import json
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flowiq_source.sandbox.dialects import Json, contact_json, message_json, pagination_json
from flowiq_source.sandbox.world import Contact, Message, World

TOKEN = "fiq_sandbox"
TENANT = "sandbox"

Params = dict[str, str]


@dataclass
class Reply:
    """An answer on its way out. `cut_at` sends so many bytes of the body and hangs up."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    delay_s: float = 0.0


Intercept = Callable[[Params], Reply | None]
"""Sees every request first: may change the world, and answers in the sandbox's place or not."""


class Refusal(Exception):
    """An error answer: status, error, message."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(status, error, message)
        self.reply = reply_json(status, {"success": False, "error": error, "message": message})


def reply_json(status: int, body: Json) -> Reply:
    """A JSON answer. Lone surrogates go out as escapes, as a broken sender would."""
    text = json.dumps(body)
    return Reply(status, text.encode(), {"Content-Type": "application/json; charset=utf-8"})


@dataclass
class RateLimit:
    """100 requests a minute, bursts to 150: a bucket of 150 that fills at 100 a minute."""

    per_minute: int = 100
    burst: int = 150
    clock: Callable[[], float] = time.time
    _level: float | None = None
    _at: float = 0.0

    def take(self) -> tuple[bool, dict[str, str]]:
        """Whether one more request is allowed, and the headers that every answer carries."""
        now = self.clock()
        level = self.burst if self._level is None else self._level
        level = min(self.burst, level + (now - self._at) * self.per_minute / 60)
        allowed = level >= 1
        self._level, self._at = level - allowed, now
        wait_s = max(0.0, self.per_minute - self._level) * 60 / self.per_minute
        return allowed, {
            "X-RateLimit-Limit": str(self.per_minute),
            "X-RateLimit-Remaining": str(int(self._level)),
            "X-RateLimit-Reset": str(int(now + wait_s)),
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that stops waiting is part of the play.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Sandbox:
    """The server, in a thread of its own: `with Sandbox() as sandbox: sandbox.url`.

    Unless it is `limited`, it lets every request through. `tenant_required`
    False is the reference's newest examples, which send no tenant. `requests`
    holds the parameters of every request that came.
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
    ) -> None:
        self.world = world or World()
        self.dialect = dialect
        self.token, self.tenant, self.tenant_required = token, tenant, tenant_required
        self.other_tenants = {"another-organisation"}
        self.rate_limit = RateLimit() if limited else None
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
        """`POST /sandbox/advance?hours=24` moves the clock; the real API has no such thing."""
        hours = params.get("hours", "")
        if path != "/sandbox/advance" or not re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", hours):
            return reply_json(404, {"success": False, "error": "POST /sandbox/advance?hours=24"})
        with self._lock:
            self.world.advance(timedelta(hours=float(hours)))
            return reply_json(200, {"success": True, "now": self.world.now.isoformat()})

    def answer(self, path: str, params: Params, authorization: str) -> Reply:
        """The answer to one GET."""
        with self._lock:
            self.requests.append(params)
            allowed, headers = self.rate_limit.take() if self.rate_limit else (True, {})
            try:
                if not allowed:
                    raise Refusal(429, "Too many requests", "Rate limit exceeded")
                reply = (self.intercept and self.intercept(params)) or self._route(
                    path, params, authorization
                )
            except Refusal as refusal:
                reply = refusal.reply
            return replace(reply, headers=headers | reply.headers)

    def _route(self, path: str, params: Params, authorization: str) -> Reply:
        if path != "/conversations":
            return Reply(404, b"<html>Not Found</html>", {"Content-Type": "text/html"})
        self._authorize(params, authorization)
        action = params.get("action", "conversation-messages")
        if action == "contacts":
            return self._contacts(params)
        if action == "find-by-phone":
            return self._find(params)
        if action == "conversation-messages":
            return self._messages(params)
        raise Refusal(400, "Invalid action", "Unknown action")

    def _authorize(self, params: Params, authorization: str) -> None:
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer" or not token:
            raise Refusal(
                401, "Authorization required", "Please provide Authorization bearer token"
            )
        if token != self.token:
            raise Refusal(401, "Invalid API key", "API key has been revoked")
        tenant = params.get("tenantId")
        if not tenant and self.tenant_required:
            raise Refusal(400, "Tenant ID is required", "Please provide tenantId query parameter")
        if tenant in self.other_tenants:
            raise Refusal(
                401, "API key mismatch", "API key does not belong to the specified tenant"
            )
        if tenant and tenant != self.tenant:
            raise Refusal(
                404, "Organization not found", f"No organization found with tenantId: {tenant}"
            )

    def _contacts(self, params: Params) -> Reply:
        word = params.get("search", "").lower()
        digits = "" if re.search(r"[^\W\d_]", word) else _digits(word)
        found = [
            contact
            for contact in self.world.contacts
            if word in (contact.full_name or "").lower() or (digits and digits in contact.number)
        ]
        page, limit = _paging(params, default=50)
        rows = [
            contact_json(self.dialect, contact, self.world.now)
            for contact in found[(page - 1) * limit : page * limit]
        ]
        return reply_json(
            200,
            {
                "success": True,
                "contacts": rows,
                "pagination": pagination_json(self.dialect, "Contacts", page, limit, len(found)),
                "count": len(rows),
            },
        )

    def _find(self, params: Params) -> Reply:
        # The quick start knows phoneNumber, the reference whatsappNumber.
        name = "phoneNumber" if self.dialect == "seed" else "whatsappNumber"
        original = params.get(name, "")
        if not original:
            raise Refusal(400, "Phone number is required", f"Please provide {name}")
        contact = self.world.find(_digits(original))
        if contact is None:
            raise Refusal(404, "Contact not found", f"No contact exists with number {original}")
        return reply_json(
            200,
            {
                "success": True,
                "contact": contact_json(self.dialect, contact, self.world.now),
                "original_phone": original,
                "normalized_phone": contact.number,
            },
        )

    def _messages(self, params: Params) -> Reply:
        contact = self._addressed(params)
        terms = self._terms(params)
        ascending = _boolean(params, "ascending")
        history = [m for m in contact.history(self.world.now) if _matches(m, terms)]
        if ascending:
            history.reverse()
        page, limit = _paging(params, default=10)
        rows = history[(page - 1) * limit : page * limit]
        return reply_json(
            200,
            {
                "success": True,
                "messages": [message_json(self.dialect, message) for message in rows],
                "pagination": pagination_json(self.dialect, "Messages", page, limit, len(history)),
                "count": len(rows),
                "searchTerms": terms or None,
                "filtered": bool(terms),
                "stored": False,
            },
        )

    def _addressed(self, params: Params) -> Contact:
        number, contact_id = params.get("whatsappNumber", ""), params.get("contactId", "")
        if not number and not contact_id:
            raise Refusal(400, "Contact is required", "Please provide whatsappNumber or contactId")
        contact = self.world.by_id(contact_id) if contact_id else self.world.find(_digits(number))
        if contact is None:
            raise Refusal(404, "Contact not found", f"No contact exists with {number}{contact_id}")
        return contact

    def _terms(self, params: Params) -> list[str]:
        terms = [term.strip() for term in params.get("query", "").split(",") if term.strip()]
        if order := params.get("orderId"):
            if order not in self.world.orders:
                raise Refusal(404, "Order not found", "Shopify order not found")
            terms.append(f"#{self.world.orders[order]}")
        return terms


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdigit())


def _matches(message: Message, terms: list[str]) -> bool:
    content = message.content.lower()
    return not terms or any(term.lower() in content for term in terms)


def _paging(params: Params, default: int) -> tuple[int, int]:
    page = _integer(params, "page", 1, 10**9)
    return page, _integer(params, "limit", default, 100)


def _integer(params: Params, name: str, default: int, most: int) -> int:
    text = params.get(name, str(default))
    if not re.fullmatch("[0-9]{1,10}", text) or not 1 <= int(text) <= most:
        raise Refusal(400, f"Invalid {name}", f"{name} must be a number from 1 to {most}")
    return int(text)


def _boolean(params: Params, name: str) -> bool:
    text: Any = params.get(name, "false")
    if text not in ("true", "false"):
        raise Refusal(400, f"Invalid {name}", f"{name} must be true or false")
    return bool(text == "true")
