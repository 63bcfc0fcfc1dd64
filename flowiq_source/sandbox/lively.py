"""A livelier business, for a demo: there are patterns in it for an analyst to find.

A bot answers at once, by day and by night, and settles about half of what is asked; the rest is
handed over to a team that works from Monday to Friday, 8 to 17 o'clock in South Africa. A few are
never answered. One customer in four lives in Brazil. Who was there often returns within a week.
Over the holidays of the southern summer much of the team is away. One customer in five hides when
they have read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from flowiq_source.sandbox.model import DAY, Contact, Message, uuid_of, wamid

_HOME_UTC_OFFSET_H = 2
_BRAZIL_UTC_OFFSET_H = -3
_AGENTS = {uuid_of(f"agent of {minutes}"): minutes for minutes in (4, 9, 20, 45)}
"""The team, and in how many minutes each of them answers on average."""

_BRAZILIANS = ("Ana Souza", "Bruno Lima", "Carla Alves", "Diego Rocha", "Elisa Costa")
_EMOJI = ("👍", "👍", "👍", "❤️", "🙏🏽", "😂", "👩‍👩‍👧")
_HANDED_OVER = "The conversation was handed over to the team"
_HANDED_BACK = "The conversation was closed"


@dataclass(frozen=True)
class _Phrases:
    """What is said in one language; `{order}` is the number of the customer's order."""

    hello: tuple[str, ...]
    questions: tuple[str, ...]
    again: tuple[str, ...]
    more: tuple[str, ...]
    spoken: str
    menu: str
    buttons: tuple[str, str]
    bot: tuple[str, ...]
    hand_over: str
    team: tuple[str, ...]
    thanks: tuple[str, ...]
    welcome: tuple[str, ...]


_ENGLISH = _Phrases(
    hello=("Hi", "Hello 👋", "Good morning", "Hey there"),
    questions=(
        "Where is my order #{order}?",
        "Do you deliver on Saturdays?",
        "Can I change the address of #{order}?",
        "Is the blue one back in stock?",
        "The parcel with #{order} came damaged 😟",
        "Can I pay by card?",
    ),
    again=("Order #{order} is still not here", "It's me again, about #{order}"),
    more=("It should have come by Thursday", "Anybody there?", "Please hurry 🙏🏽", "It is urgent"),
    spoken="Hi, I wanted to ask whether you could deliver order {order} a bit later today",
    menu='{{"header": "Order #{order}", "body": "How can we help?", "buttons": ["Track", "Team"]}}',
    buttons=("Track", "Team"),
    bot=(
        "Order #{order} left our warehouse this morning.",
        "We deliver Monday to Saturday, 08:00 to 17:00.",
        "Yes, by card, EFT or on delivery.",
    ),
    hand_over="One moment, somebody of our team will answer you.",
    team=(
        "Let me look into #{order} for you.",
        "The courier comes tomorrow before noon.",
        "The refund for #{order} was paid out today.",
        "Could you send us a photo, please?",
    ),
    thanks=("Thank you so much 🙏🏽", "Great, thanks!", "👍"),
    welcome=("You are welcome 🙏🏽", "With pleasure!"),
)
_PORTUGUESE = _Phrases(
    hello=("Oi", "Olá 👋", "Bom dia"),
    questions=(
        "Onde está o meu pedido #{order}?",
        "Vocês entregam aos sábados?",
        "Posso mudar o endereço do #{order}?",
        "O pacote #{order} chegou quebrado 😟",
    ),
    again=("O pedido #{order} ainda não chegou", "Sou eu de novo, sobre o #{order}"),
    more=("Devia ter chegado na quinta", "Tem alguém aí?", "É urgente"),
    spoken="Oi, queria saber se podem entregar o pedido {order} um pouco mais tarde",
    menu='{{"header": "Pedido #{order}", "body": "Como ajudar?", "buttons": ["Ver", "Ajuda"]}}',
    buttons=("Ver", "Ajuda"),
    bot=("O pedido #{order} saiu hoje de manhã.", "Entregamos de segunda a sábado."),
    hand_over="Um momento, alguém da nossa equipe vai responder.",
    team=(
        "Vou verificar o #{order} para você.",
        "O entregador vem amanhã antes do meio-dia.",
        "O reembolso do #{order} foi pago hoje.",
    ),
    thanks=("Muito obrigada 🙏🏽", "Obrigado!", "👍"),
    welcome=("De nada 🙏🏽", "Por nada!"),
)


def settle(contact: Contact, n: int) -> None:
    """Give the n-th contact a place to live, and a bot to two of three."""
    contact.archived = False
    contact.bot_status = contact.bot_status and "active"
    if n % 4 == 3:
        contact.utc_offset_h = _BRAZIL_UTC_OFFSET_H
        contact.number = f"5511{900000000 + n * 7919}"
        contact.full_name = contact.full_name and _BRAZILIANS[n % len(_BRAZILIANS)]


def lively_day(seed: int, contact: Contact, day: datetime) -> Iterator[Message]:
    """What a contact asks on the day that begins at this time, with all that follows from it."""
    name = f"{seed}/lively/{contact.number}/{day.date()}"
    random = Random(name)
    at = _somewhen(random, contact, day)
    if random.random() > _chance(contact, at) or at < (contact.busy_until or contact.created_at):
        return
    exchange = _Exchange(random, contact, at, name, order=random.randrange(4200, 4300))
    _settle_a_matter(exchange, exchange.phrases.questions)
    if random.random() < 0.25:
        exchange.wait(random.uniform(1, 6) * DAY, _awake)
        _settle_a_matter(exchange, exchange.phrases.again)
    contact.busy_until = exchange.at
    yield from exchange.messages


@dataclass
class _Exchange:
    """A contact's messages with the business; `at` is how far it has got."""

    random: Random
    contact: Contact
    at: datetime
    name: str
    order: int
    messages: list[Message] = field(default_factory=list)

    @property
    def phrases(self) -> _Phrases:
        """The contact's language."""
        brazilian = self.contact.utc_offset_h == _BRAZIL_UTC_OFFSET_H
        return _PORTUGUESE if brazilian else _ENGLISH

    def wait(self, by: timedelta, until: Callable[[Contact, datetime], datetime]) -> None:
        """Let time pass, and then as much more as it takes until somebody is there."""
        self.at = until(self.contact, self.at + by)

    def seconds(self, least: float, most: float) -> timedelta:
        """A time between the two."""
        return timedelta(seconds=self.random.randrange(int(least * 1000), int(most * 1000)) / 1000)

    def say(self, sender: str, content: str) -> Message:
        """Say something now; `content` is a phrase."""
        text = content.format(order=self.order)
        name = f"{self.name}/{len(self.messages)}"
        status = "read" if sender in ("user-whatsapp", "system") else "sent"
        self.messages.append(Message(wamid(name), self.at, sender, text, status))
        return self.messages[-1]

    def bot(self, is_status: str) -> None:
        """From now on the bot is this, if there is one."""
        if self.contact.bot_status is not None:
            self.contact.changes.append((self.at, "bot_status", is_status))


def _settle_a_matter(exchange: _Exchange, openings: tuple[str, ...]) -> None:
    random = exchange.random
    _ask(exchange, openings)
    if exchange.contact.bot_status is not None and _bot_settles(exchange):
        return
    if random.random() < 0.12:
        # Nobody ever answers; the bot is back when the customer has given up.
        exchange.at += 3 * DAY
    else:
        _talk_to_the_team(exchange)
    exchange.bot("active")


def _bot_settles(exchange: _Exchange) -> bool:
    """Whether the bot's answer is enough; else the team is asked for."""
    phrases, enough = exchange.phrases, exchange.random.random() < 0.5
    menu = _answer(exchange, "bot-whatsapp", phrases.menu, exchange.seconds(1, 6))
    menu.media_type = "interactive"
    track, team = phrases.buttons
    _reply(exchange, (track if enough else team,))
    if enough:
        answer = exchange.random.choice(phrases.bot)
        _answer(exchange, "bot-whatsapp", answer, exchange.seconds(1, 6))
        if _thanks(exchange):
            welcome = exchange.random.choice(phrases.welcome)
            _answer(exchange, "bot-whatsapp", welcome, exchange.seconds(1, 6))
    else:
        _answer(exchange, "bot-whatsapp", phrases.hand_over, exchange.seconds(1, 6))
        exchange.at += exchange.seconds(1, 3)
        exchange.say("system", _HANDED_OVER)
        exchange.bot("paused")
    return enough


def _ask(exchange: _Exchange, openings: tuple[str, ...]) -> None:
    """One to four messages in a row, now and then a voice note or a picture."""
    random, phrases = exchange.random, exchange.phrases
    burst = random.choice((1, 1, 1, 2, 2, 3, 4))
    if burst > 1:
        exchange.say("user-whatsapp", random.choice(phrases.hello))
        exchange.at += exchange.seconds(2, 25)
    question = exchange.say("user-whatsapp", random.choice(openings))
    kind = random.random()
    if kind < 0.12:
        _speak(exchange, question)
    elif kind < 0.2:
        _attach(random, question, "image")
    for _ in range(burst - 2):
        exchange.at += exchange.seconds(2, 40)
        exchange.say("user-whatsapp", random.choice(phrases.more))


def _talk_to_the_team(exchange: _Exchange) -> None:
    random, phrases = exchange.random, exchange.phrases
    agent = random.choice(list(_AGENTS))
    asked = next(m for m in reversed(exchange.messages) if m.sender == "user-whatsapp")
    for _ in range(random.randrange(1, 4)):
        exchange.wait(timedelta(0), _at_work)
        takes = timedelta(minutes=1 + random.expovariate(1 / _AGENTS[agent]))
        takes *= 4 if _are_holidays(exchange.at) else 1
        exchange.wait(takes, _at_work)
        asked.changes.append((exchange.at - takes / 2, "assignee", agent))
        message = _answer(exchange, "human-whatsapp", random.choice(phrases.team), timedelta(0))
        message.assignee = agent
        if random.random() < 0.08:
            _attach(random, message, "document")
        if random.random() < 0.4:
            break
        asked = _reply(exchange, phrases.more)
    if _thanks(exchange) and random.random() < 0.8:
        exchange.wait(timedelta(0), _at_work)
        exchange.wait(exchange.seconds(20, 900), _at_work)
        message = _answer(exchange, "human-whatsapp", random.choice(phrases.welcome), timedelta(0))
        message.assignee = agent
    exchange.at += timedelta(hours=1)
    exchange.say("system", _HANDED_BACK)


def _answer(exchange: _Exchange, sender: str, content: str, takes: timedelta) -> Message:
    """The message that reaches the customer, be it at the second attempt."""
    exchange.at += takes
    message = exchange.say(sender, content)
    if exchange.random.random() < 0.03:
        message.changes.append((message.at + timedelta(seconds=5), "status", "failed"))
        exchange.at += exchange.seconds(30, 900)
        message = exchange.say(sender, content)
    _deliver(exchange, message)
    return message


def _deliver(exchange: _Exchange, message: Message) -> None:
    random, contact = exchange.random, exchange.contact
    # One phone in ten is off.
    off = exchange.seconds(600, 20_000) if random.random() < 0.1 else timedelta(0)
    delivered_at = message.at + exchange.seconds(1, 8) + off
    read_at = _awake(contact, delivered_at + exchange.seconds(5, 5_000))
    if random.random() < 0.02:
        # The phone is lost, or its owner has blocked the business.
        return
    message.changes.append((delivered_at, "status", "delivered"))
    if not _hides_receipts(contact):
        message.changes.append((read_at, "status", "read"))
    if random.random() < 0.12:
        reaction = {"emoji": random.choice(_EMOJI), "sender": contact.number}
        message.changes.append((read_at + timedelta(minutes=1), "reactions", [reaction]))
        if random.random() < 0.2:
            message.changes.append((read_at + timedelta(hours=5), "reactions", []))


def _reply(exchange: _Exchange, phrases: tuple[str, ...]) -> Message:
    exchange.wait(exchange.seconds(20, 1_500), _awake)
    return exchange.say("user-whatsapp", exchange.random.choice(phrases))


def _thanks(exchange: _Exchange) -> bool:
    """Whether the customer says thank you, as four of ten do."""
    thankful = exchange.random.random() < 0.4
    if thankful:
        _reply(exchange, exchange.phrases.thanks)
    return thankful


def _speak(exchange: _Exchange, message: Message) -> None:
    """Make it a voice note; nine of ten are transcribed within half an hour."""
    _attach(exchange.random, message, "audio")
    message.content = ""
    if exchange.random.random() < 0.9:
        said = exchange.phrases.spoken.format(order=exchange.order)
        at = message.at + exchange.seconds(20, 1_800)
        message.changes.append((at, "voice_transcription", said))


def _attach(random: Random, message: Message, kind: str) -> None:
    message.media_type = kind
    message.media_url = f"https://media.example.com/{random.getrandbits(64):016x}"


def _chance(contact: Contact, at: datetime) -> float:
    """How likely the contact writes on that day; on a weekend less."""
    weekend = (at + timedelta(hours=contact.utc_offset_h)).weekday() >= 5
    return (0.7 if contact.busy else 0.2) * (0.4 if weekend else 1)


def _somewhen(random: Random, contact: Contact, day: datetime) -> datetime:
    """A time within the day after this one; at noon and in the evening likelier than at night."""
    peak_h, spread_h = random.choice([(12.5, 2.5), (12.5, 2.5), (19.5, 1.5), (14.0, 6.0)])
    local_h = random.gauss(peak_h, spread_h)
    midnight = day.replace(hour=0, minute=0, second=0)
    at = midnight + timedelta(seconds=int(3600 * ((local_h - contact.utc_offset_h) % 24)))
    return at if at >= day else at + DAY


def _hides_receipts(contact: Contact) -> bool:
    return Random(f"receipts/{contact.number}").random() < 0.2


def _are_holidays(at: datetime) -> bool:
    return (at.month, at.day) >= (12, 15) or (at.month, at.day) < (1, 5)


def _awake(contact: Contact, at: datetime) -> datetime:
    """The first time from then on when the contact looks at the phone."""
    local = at + timedelta(hours=contact.utc_offset_h)
    if 7 <= local.hour < 23:
        return at
    morning = local.replace(hour=7, minute=local.minute // 2)
    return at + (morning - local) % DAY


def _at_work(_: Contact, at: datetime) -> datetime:
    """The first time from then on when the team is at work."""
    local = at + timedelta(hours=_HOME_UTC_OFFSET_H)
    if local.hour >= 17:
        local = (local + DAY).replace(hour=8, minute=local.minute // 2)
    elif local.hour < 8:
        local = local.replace(hour=8, minute=local.minute // 2)
    while local.weekday() >= 5:
        local = (local + DAY).replace(hour=8, minute=local.minute // 2)
    return local - timedelta(hours=_HOME_UTC_OFFSET_H)
