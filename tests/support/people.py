"""Somebody of whom an account knows everything that says who a person is."""

from typing import Any

from flowiq_source.sandbox import Contact, World

NUMBER = "27825550101"


def add_thandiwe(world: World, **more: Any) -> Contact:
    """Her contact, by this number."""
    return world.add_contact(
        NUMBER,
        full_name="Thandiwe Mkhize",
        email="thandiwe@example.org",
        phone_number="+27 82 555 0101",
        **more,
    )
