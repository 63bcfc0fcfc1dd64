"""A FlowIQ API to try things against: `python -m flowiq_source.sandbox`, or `with Sandbox()`."""

from flowiq_source.sandbox.server import TENANT, TOKEN, RateLimit, Reply, Sandbox, reply_json
from flowiq_source.sandbox.world import Contact, Message, World

__all__ = [
    "TENANT",
    "TOKEN",
    "Contact",
    "Message",
    "RateLimit",
    "Reply",
    "Sandbox",
    "World",
    "reply_json",
]
