"""Many organisations at one sandbox, and what a warehouse must hold of each."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta

from flowiq_source import Tenant
from flowiq_source.sandbox import Sandbox, World
from flowiq_source.sandbox import Tenant as Organisation

Said = Counter[tuple[str, str]]


def organisations(names: Iterable[str], contacts: int = 2) -> list[Organisation]:
    """Each with so many contacts of its own, who have written three messages."""
    made: list[Organisation] = []
    for name in names:
        world = World(contacts=0)
        for n in range(contacts):
            contact = world.add_contact(f"2782{len(made):04d}{n:03d}")
            for text in ("one", "two", "three"):
                world.add_message(contact, content=f"{text} for {name}")
        made.append(Organisation(name, world))
    return made


def a_day_later(api: Sandbox) -> None:
    """Somebody writes to each organisation, a reaction comes, and a message is deleted."""
    for one in api.tenants:
        one.world.advance(timedelta(days=1))
        first, second = one.world.contacts[0], one.world.contacts[-1]
        one.world.add_message(first, content=f"news for {one.slug}")
        first.messages[0].reactions = [{"emoji": "👍", "sender": "27820000000"}]
        one.world.delete_message(second, second.messages[1])


def told(api: Sandbox, *names: str) -> Said:
    """What the API shows of organisations, or of all."""
    return Counter(
        (one.slug, message.content + "".join(r["emoji"] for r in message.reactions))
        for one in api.tenants
        if not names or one.slug in names
        for contact in one.world.contacts
        for message in contact.history(one.world.now)
    )


STORED = """
    SELECT m.tenant_id, m.content, r.emoji FROM {dataset}.current_messages m
    LEFT JOIN {dataset}.messages__reactions r ON r._dlt_parent_id = m._dlt_id"""


def stored(ask: Callable[[str], Iterable[tuple[str, ...]]], dataset: str = "flowiq") -> Said:
    """The same from the warehouse."""
    rows = ask(STORED.format(dataset=dataset))
    return Counter((tenant, text + (emoji or "")) for tenant, text, emoji in rows)


def named(api: Sandbox) -> list[Tenant]:
    """The tenants as a file would name them; `secrets_of` has what the names stand for."""
    return [Tenant(one.slug, f"sources.flowiq.tokens.{one.slug}") for one in api.tenants]


def secrets_of(api: Sandbox) -> dict[str, str]:
    """The environment of whoever loads them."""
    return {
        "SOURCES__FLOWIQ__BASE_URL": api.url,
        "SOURCES__FLOWIQ__REQUESTS_PER_MINUTE": "1000000",
        **{f"SOURCES__FLOWIQ__TOKENS__{one.slug.upper()}": one.token for one in api.tenants},
    }
