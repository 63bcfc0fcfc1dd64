"""Answers on their way out, and the error answers of the vendor's documents.

Source: OpenAPI file and API reference. Where they show a body, its words are theirs; where they
give a status alone, the words are invented.
"""

import json
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class Reply:
    """An answer on its way out. `cut_at` sends so many bytes of the body and hangs up."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    delay_s: float = 0.0


def reply_json(status: int, body: Json) -> Reply:
    """A JSON answer. Lone surrogates go out as escapes, as a broken sender would."""
    text = json.dumps(body)
    return Reply(status, text.encode(), {"Content-Type": "application/json; charset=utf-8"})


class Refusal(Exception):
    """An error answer: status, error, and what else stands in it."""

    def __init__(self, status: int, error: str, message: str | None = None, **more: str) -> None:
        super().__init__(status, error, message)
        said = {} if message is None else {"message": message}
        self.reply = reply_json(status, {"success": False, "error": error, **said, **more})


_DOCUMENTED: dict[str, tuple[int, Json]] = {
    "no tenant": (
        400,
        {"error": "Tenant ID is required", "message": "Please provide tenantId query parameter"},
    ),
    "invalid action": (400, {"error": "Invalid action"}),
    "no token": (
        401,
        {
            "error": "Authorization required",
            "message": "Please provide Authorization bearer token",
        },
    ),
    "invalid token": (401, {"error": "Invalid API key", "message": "API key has been revoked"}),
    "not a token": (
        401,
        {
            "error": "Invalid token format",
            "message": "Bearer token must be an API key (fiq_...)",
        },
    ),
    "mismatch": (
        401,
        {
            "error": "API key mismatch",
            "message": "API key does not belong to the specified tenant",
        },
    ),
    # Both words are documented; that they stand in one answer is not.
    "authentication mismatch": (
        401,
        {"error": "AuthenticationError", "message": "Authentication mismatch"},
    ),
    "no organisation": (404, {"error": "Organization not found"}),
    "no contact": (404, {"error": "Contact not found"}),
    "no number": (
        404,
        {
            "error": "Contact not found",
            "message": "Contact not found for the provided phone number",
        },
    ),
    "no order": (404, {"error": "Order not found", "details": "Shopify order not found"}),
    "no endpoint": (404, {"error": "Invalid endpoint or missing required parameters"}),
    "too many": (429, {"error": "Too many requests", "message": "Rate limit exceeded"}),
    "server error": (500, {"error": "Internal server error"}),
}

REFUSALS = tuple(_DOCUMENTED)
"""The names that `documented` knows."""


def documented(name: str, **more: str) -> Refusal:
    """A documented error answer by our name for it: to raise, or its `reply` to give."""
    status, body = _DOCUMENTED[name]
    return Refusal(status, **(body | more))
