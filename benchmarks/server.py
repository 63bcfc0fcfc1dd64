"""A FlowIQ API that costs next to nothing: every answer is rendered before it listens.

Prints its URL when it is ready. `/stats` counts the requests, `/stats?reset=1` begins anew.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import socket
import time
from typing import Any, cast
from urllib.parse import parse_qsl

from account import OK, PAGE_SIZE, Account, answer, empty_page, render_account

from flowiq_source.sandbox.server import RateLimit

_TOO_MANY = b"HTTP/1.1 429 Too Many Requests\r\n"


class Api:
    """The rendered account, the rate limit and the count of what was asked."""

    def __init__(self, account: Account, dialect: str, limit: RateLimit | None) -> None:
        self.account, self.dialect, self.limit = account, dialect, limit
        self.requests = self.too_many = 0
        self.first_s = self.last_s = 0.0

    def answer(self, target: str) -> bytes:
        """The answer to a GET of this path and query; asking for the stats is not counted."""
        path, _, query = target.partition("?")
        if path == "/stats":
            return self._stats(reset="reset=1" in query)
        self._count()
        if self.limit is None:
            return self._route(path, query)
        allowed, headers = self.limit.take()
        self.too_many += not allowed
        found = self._route(path, query) if allowed else _refusal(_TOO_MANY, "Too many requests")
        status, _, rest = found.partition(b"\r\n")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return status + b"\r\n" + lines.encode() + rest

    def _count(self) -> None:
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        self.requests += 1

    def _stats(self, *, reset: bool) -> bytes:
        """`seconds` are those from the first request to the last."""
        seconds = self.last_s - self.first_s
        counts = {"requests": self.requests, "too_many": self.too_many, "seconds": seconds}
        if reset:
            self.requests = self.too_many = 0
            self.first_s = self.last_s = 0.0
        return answer(OK, json.dumps(counts).encode())

    def _route(self, path: str, query: str) -> bytes:
        if path != "/conversations":
            return _refusal(b"HTTP/1.1 404 Not Found\r\n", "Not found")
        params = dict(parse_qsl(query))
        if params.get("limit") != str(PAGE_SIZE):
            return _refusal(b"HTTP/1.1 400 Bad Request\r\n", f"limit must be {PAGE_SIZE} here")
        number = int(params.get("page", "1"))
        action = params.get("action", "conversation-messages")
        if action == "contacts":
            return self._page("Contacts", self.account.contacts, number)
        if action == "conversation-messages":
            who = params.get("contactId") or params.get("whatsappNumber", "")
            if who in self.account.messages:
                return self._page("Messages", self.account.messages[who], number)
            return _refusal(b"HTTP/1.1 404 Not Found\r\n", "Contact not found")
        return _refusal(b"HTTP/1.1 400 Bad Request\r\n", "Invalid action")

    def _page(self, kind: str, pages: list[bytes], number: int) -> bytes:
        if 1 <= number <= len(pages):
            return pages[number - 1]
        return empty_page(self.dialect, kind, number, self.account.totals[kind])


def _refusal(status: bytes, error: str) -> bytes:
    body = {"success": False, "error": error, "message": error}
    return answer(status, json.dumps(body).encode())


class Connection(asyncio.Protocol):
    """One connection that stays open; answers go out in the order of the requests."""

    def __init__(self, api: Api, latency_s: float) -> None:
        self._api, self._latency_s = api, latency_s
        self._loop = asyncio.get_running_loop()
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send small answers at once."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete. None has a body."""
        self._unread += data
        while b"\r\n\r\n" in self._unread:
            head, _, self._unread = self._unread.partition(b"\r\n\r\n")
            reply = self._api.answer(head.split(b" ", 2)[1].decode())
            if self._latency_s:
                self._loop.call_later(self._latency_s, self._send, reply)
            else:
                self._transport.write(reply)

    def _send(self, reply: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(reply)


async def serve(api: Api, port: int, latency_s: float) -> None:
    """Listen on loopback until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(api, latency_s), "127.0.0.1", port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Render, then serve until interrupted."""
    options = _options()
    account = render_account(options.contacts, options.messages, options.seed, options.dialect)
    # What was rendered stays for ever: no need to look at it again.
    gc.collect()
    gc.freeze()
    rate = options.per_minute
    api = Api(account, options.dialect, RateLimit(rate, rate * 3 // 2) if rate else None)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(api, options.port, options.latency_ms / 1000))


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--contacts", type=int, default=1_000)
    parser.add_argument("--messages", type=int, default=100, help="of each contact")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="wait before each answer")
    parser.add_argument("--per-minute", type=int, help="limit the rate, with a burst of half more")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dialect", choices=["seed", "reference"], default="seed")
    parser.add_argument("--port", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
