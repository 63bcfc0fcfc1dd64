"""Serve an invented FlowIQ account on loopback until interrupted.

It answers as the vendor documents it, errors and rate limit included, and says what to set so
that `make run` reads it.
"""

import argparse
import threading
from collections.abc import Callable, Sequence

from flowiq_source.sandbox import Sandbox, Tenant, World
from flowiq_source.sandbox.dialects import DIALECTS
from flowiq_source.sandbox.limits import LIMITS, RateLimit
from flowiq_source.sandbox.server import TENANT
from flowiq_source.sandbox.world import planned_for

_EXAMPLE = """\
for example, a livelier business of 40 contacts, and the vendor's own example asked of it:

  python -m flowiq_source.sandbox --contacts 40 --lively

  curl -H 'Authorization: Bearer fiq_sandbox' \\
    'http://127.0.0.1:8123/conversations?tenantId=sandbox&whatsappNumber=27123456789&limit=10'

let a day pass, at every tenant:

  curl -X POST 'http://127.0.0.1:8123/sandbox/advance?hours=24'

two organisations, whose tokens are fiq_north and fiq_south, at a limit that is soon reached:

  python -m flowiq_source.sandbox --tenant north --tenant south --per-minute 20 --burst 30
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, or these arguments, and serve."""
    parser = _parser()
    options = parser.parse_args(arguments)
    slugs = list(dict.fromkeys(options.tenant or [TENANT]))
    first, *others = [_tenant(slug, options, n) for n, slug in enumerate(slugs)]
    try:
        sandbox = Sandbox(
            first.world,
            dialect=options.dialect,
            port=options.port,
            token=first.token,
            tenant=first.slug,
            tenant_required=not options.tenant_optional,
            tenants=others,
        )
    except (OSError, OverflowError) as error:
        parser.error(f"cannot listen on port {options.port} ({error}); choose another with --port")
    sandbox.rate_limit = first.rate_limit
    with sandbox:
        _say_what_to_set(sandbox, [first, *others], options.contacts)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")


def _say_what_to_set(sandbox: Sandbox, tenants: list[Tenant], contacts: int) -> None:
    there = f"{contacts} contact{'' if contacts == 1 else 's'}"
    each = f"{len(tenants)} tenants of {there} each" if len(tenants) > 1 else there
    print(f"A FlowIQ sandbox with {each}. In another terminal:\n")
    print(f"  export SOURCES__FLOWIQ__BASE_URL={sandbox.url}")
    for tenant in tenants:
        print(f"  export SOURCES__FLOWIQ__BEARER_TOKEN={tenant.token}")
        print(f"  export SOURCES__FLOWIQ__TENANT_ID={tenant.slug}")
        print("  make run")
    print(f"  curl -X POST '{sandbox.url}/sandbox/advance?hours=24'\n", flush=True)


def _tenant(slug: str, options: argparse.Namespace, n: int) -> Tenant:
    """The n-th organisation; each is another business."""
    world = World(
        planned_for(max(0, options.contacts - 1)),
        options.seed + n,
        lively=options.lively,
        documented=options.contacts > 0,
        web_chat=options.web_chat,
        hidden_numbers=options.hidden_numbers,
        optional_fields=options.optional_fields,
        uuid_ids=options.uuid_ids,
    )
    return Tenant(slug, world, rate_limit=_limit(options))


def _limit(options: argparse.Namespace) -> RateLimit | None:
    if options.limit == "none":
        return None
    burst = options.per_minute * 3 // 2 if options.burst is None else options.burst
    return LIMITS[options.limit](options.per_minute, burst)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flowiq_source.sandbox",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--port", type=_whole(0), default=8123, help="0 takes any that is free (default: 8123)")
    add(
        "--contacts",
        type=_whole(0),
        default=12,
        help="that are there at the start, one of them the vendor's John Doe, 27123456789; "
        "more join as the clock goes on (default: 12)",
    )
    add("--seed", type=int, default=1, help="another seed is another business")
    add("--dialect", choices=DIALECTS, default="reference", help="whose names the rows have")
    add("--tenant", action="append", type=_slug, help="an organisation; may be repeated")
    add("--tenant-optional", action="store_true", help="without tenantId, the token decides")
    add("--lively", action="store_true", help="bots, hand-overs, nights, weekends, voice notes")
    add("--web-chat", action="store_true", help="one contact in four writes in the web chat")
    add("--hidden-numbers", action="store_true", help="one in five has an id such as ZA.1349")
    add("--optional-fields", action="store_true", help="all that any document mentions")
    add("--uuid-ids", action="store_true", help="of messages, WhatsApp's own beside them")
    add("--limit", choices=[*LIMITS, "none"], default="bucket", help="how requests are counted")
    add("--per-minute", type=_whole(1), default=100, help="requests (default: 100)")
    add("--burst", type=_whole(1), help="most requests at once (default: half as many more)")
    return parser


def _whole(least: int) -> Callable[[str], int]:
    """A parser of whole numbers from `least` on."""

    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return whole


def _slug(text: str) -> str:
    if not text.replace("-", "").replace("_", "").isalnum() or not text.isascii():
        raise argparse.ArgumentTypeError(f"{text!r} is not letters, digits, - and _ alone")
    return text


if __name__ == "__main__":
    main()
