"""A FlowIQ API to try things against: `python -m flowiq_source.sandbox`, or `with Sandbox()`."""

from flowiq_source.sandbox.limits import AlignedWindow, RateLimit, SlidingWindow
from flowiq_source.sandbox.model import Contact, Message
from flowiq_source.sandbox.replies import Reply, documented, reply_json
from flowiq_source.sandbox.server import TENANT, TOKEN, Sandbox, Tenant
from flowiq_source.sandbox.world import World

__all__ = [
    "TENANT",
    "TOKEN",
    "AlignedWindow",
    "Contact",
    "Message",
    "RateLimit",
    "Reply",
    "Sandbox",
    "SlidingWindow",
    "Tenant",
    "World",
    "documented",
    "reply_json",
]
