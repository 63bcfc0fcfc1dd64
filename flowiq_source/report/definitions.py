"""What each figure means, and which models it is from; `{…}` is filled in from the numbers."""

from typing import NamedTuple


class Definition(NamedTuple):
    """Paragraphs, set apart by empty lines, and the models."""

    text: str
    models: tuple[str, ...]

    def paragraphs(self, **words: str) -> list[str]:
        """The text with the words filled in."""
        return [" ".join(part.split()).format(**words) for part in self.text.split("\n\n")]


DEFINITIONS = {
    "volume": Definition(
        """Every message that FlowIQ still has, on the day of its local time. Who wrote it is told
        by the sender: user is a customer, bot the bot, human somebody of the team.""",
        ("fct_messages",),
    ),
    "load": Definition(
        """Messages of customers by weekday and hour in {zone}. Where a clock is put forward or
        back, an hour of that day is missing or counts twice, as it happened.""",
        ("fct_messages",),
    ),
    "answers": Definition(
        """A wait begins with the first message of a customer that nobody has answered, and ends
        with the first message of the bot or the team: a burst of messages is one wait. It counts
        on the day on which it began.

        A wait for the team is counted apart, because a bot that says hello at once answers
        nobody's question. It begins with the first message of the customer after the bot's last
        word, or, where the bot had the last word before the team, with that word, which is the
        hand-over.

        Half of all waits are shorter than the median, nine in ten shorter than the 90th
        percentile. Business time is the part of a wait that lies within {hours}. Who still waits
        is not in these numbers, but under “Who waits now?”.""",
        ("fct_waits", "fct_agent_waits"),
    ),
    "trend-business": Definition(
        """The same waits for the team as in the table above, in weeks that begin on Monday. A
        median is drawn where a week has five answers or more, a
        90th percentile where it has ten.""",
        ("fct_agent_waits",),
    ),
    "trend-calendar": Definition(
        """The same waits for the team as in the table above, in weeks that begin on Monday, with
        every night and weekend in between. A
        median is drawn where a week has five answers or more, a
        90th percentile where it has ten.""",
        ("fct_agent_waits",),
    ),
    "trend-bot": Definition(
        """The waits that the bot ended, in weeks that begin on Monday. A
        median is drawn where a week has five answers or more, a
        90th percentile where it has ten.""",
        ("fct_waits",),
    ),
    "backlog": Definition(
        """Conversations whose last word is the customer's, by the time since the first message
        that has no answer, as of {as_of}. WhatsApp lets a business write freely until 24 hours
        after the customer's last message.

        A thank you at the end of a conversation waits for nothing and is counted here all the
        same: FlowIQ does not say when a matter is closed.""",
        ("fct_backlog",),
    ),
    "waiting": Definition(
        """The conversations of the figure above with their contacts, the longest wait first,
        100 at most.""",
        ("fct_backlog", "contacts", "current_messages"),
    ),
    "windows": Definition(
        """A window opens with a message of a customer and ends 24 hours after the customer's last
        one. It counts as settled by the bot when the bot alone answered and the customer did not
        come back within 24 hours of its end; as handed over when bot and team answered; and as
        open until it has ended and, after the bot alone, that is known.

        That nobody came back is no proof that the matter was settled: FlowIQ does not say so.""",
        ("fct_windows",),
    ),
    "delivery": Definition(
        """Messages of bot and team that are old enough for their fate to be known. Each step
        contains the next: what was read was delivered, what was delivered was sent. Those that
        failed are apart.

        The share that was read is a lower bound, because customers can hide that they have read.
        When a message was read, and why one failed, FlowIQ does not say.""",
        ("fct_delivery_daily",),
    ),
    "reactions": Definition(
        """Emoji on messages of these days, whoever set them. One that was taken back is gone with
        the next sync of its message.""",
        ("current_messages", "messages__reactions"),
    ),
    "agents": Definition(
        """Messages of the team by whom the conversation was assigned to, and the waits that they
        ended, in business hours. What nobody was assigned to is “unassigned”.

        Waits depend on what somebody is given to do: these are not grades.""",
        ("fct_messages", "fct_agent_waits"),
    ),
    "sync": Definition(
        """FlowIQ counts the messages of a conversation on every page that it hands out. The count
        that the last sync saw is held against the messages in the warehouse that are not
        gone.""",
        ("conversations", "current_messages"),
    ),
    "troubles": Definition(
        """Conversations that the last sync could not read, by the reason, and values that do not
        fit the type of their column, by table, column and reason. The values themselves are in
        rejected_rows.""",
        ("conversations", "rejected_rows"),
    ),
}
