"""The command that serves an invented FlowIQ account."""

import json
import threading
from collections.abc import Callable
from typing import Any

import click

from flowiq_source.sandbox import Sandbox, Tenant, World
from flowiq_source.sandbox.dialects import DIALECTS
from flowiq_source.sandbox.limits import LIMITS, RateLimit
from flowiq_source.sandbox.server import TENANT
from flowiq_source.sandbox.world import planned_for

_EXAMPLES = """\b
Examples:
  flowiq sandbox --contacts 40 --lively
\b
The vendor's own example, asked of it:
  curl -H 'Authorization: Bearer fiq_sandbox' \\
    'http://127.0.0.1:8123/conversations?tenantId=sandbox&whatsappNumber=27123456789&limit=10'
\b
Let a day pass, at every tenant:
  curl -X POST 'http://127.0.0.1:8123/sandbox/advance?hours=24'
\b
Two organisations, whose tokens are fiq_north and fiq_south, at a limit that is soon reached:
  flowiq sandbox --tenant north --tenant south --per-minute 20 --burst 30
"""


def _slug(_: Any, __: Any, slugs: tuple[str, ...]) -> tuple[str, ...]:
    for text in slugs:
        if not text.replace("-", "").replace("_", "").isalnum() or not text.isascii():
            raise click.BadParameter(f"{text!r} is not letters, digits, - and _ alone")
    return tuple(dict.fromkeys(slugs or (TENANT,)))


def _flag(name: str, text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(name, is_flag=True, help=text)


@click.command(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--port", type=click.IntRange(0), default=8123, help="0 takes any that is free.")
@click.option(
    "--contacts",
    type=click.IntRange(0),
    default=12,
    help="How many there are at the start, one of them the vendor's John Doe, 27123456789; "
    "more join as the clock goes on.",
)
@click.option("--seed", type=int, default=1, help="Another seed is another business.")
@click.option(
    "--dialect",
    type=click.Choice(list(DIALECTS)),
    default="reference",
    help="Whose names rows have.",
)
@click.option("--tenant", multiple=True, callback=_slug, help="An organisation; repeat it.")
@_flag("--tenant-optional", "Without tenantId, the token decides.")
@_flag("--lively", "Bots, hand-overs, nights, weekends, voice notes.")
@_flag("--web-chat", "One contact in four writes in the web chat.")
@_flag("--hidden-numbers", "One in five has an id such as ZA.1349.")
@_flag("--optional-fields", "All that any document mentions.")
@_flag("--uuid-ids", "Ids of messages, WhatsApp's own beside them.")
@click.option(
    "--limit", type=click.Choice([*LIMITS, "none"]), default="bucket", help="How requests count."
)
@click.option("--per-minute", type=click.IntRange(1), default=100, help="Requests.")
@click.option("--burst", type=click.IntRange(1), help="Most at once. [default: half as many more]")
def sandbox(port: int, tenant: tuple[str, ...], **options: Any) -> None:
    """Serve an invented FlowIQ account on loopback until Ctrl-C.

    It answers as the vendor documents it, errors and rate limit included, and says what to set so
    that a sync reads it.
    """
    first, *others = [_tenant(slug, options, n) for n, slug in enumerate(tenant)]
    try:
        server = Sandbox(
            first.world,
            dialect=options["dialect"],
            port=port,
            token=first.token,
            tenant=first.slug,
            tenant_required=not options["tenant_optional"],
            tenants=others,
        )
    except (OSError, OverflowError) as error:
        raise click.UsageError(
            f"cannot listen on port {port} ({error}); choose another with --port"
        ) from None
    server.rate_limit = first.rate_limit
    with server:
        if options.get("as_json"):
            click.echo(json.dumps(_served(server, [first, *others])))
        elif not options.get("quiet"):
            _say_what_to_set(server, [first, *others], options["contacts"])
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            click.echo("stopped", err=True)


def _served(sandbox: Sandbox, tenants: list[Tenant]) -> dict[str, Any]:
    """What a program needs to ask it."""
    keys = [{"tenant_id": one.slug, "bearer_token": one.token} for one in tenants]
    return {"base_url": sandbox.url, "tenants": keys}


def _say_what_to_set(sandbox: Sandbox, tenants: list[Tenant], contacts: int) -> None:
    there = f"{contacts} contact{'' if contacts == 1 else 's'}"
    each = f"{len(tenants)} tenants of {there} each" if len(tenants) > 1 else there
    click.echo(f"A FlowIQ sandbox with {each}. In another terminal:\n")
    click.echo(f"  export SOURCES__FLOWIQ__BASE_URL={sandbox.url}")
    for tenant in tenants:
        click.echo(f"  export SOURCES__FLOWIQ__BEARER_TOKEN={tenant.token}")
        click.echo(f"  export SOURCES__FLOWIQ__TENANT_ID={tenant.slug}")
        click.echo("  flowiq sync")
    click.echo(f"  curl -X POST '{sandbox.url}/sandbox/advance?hours=24'\n")


def _tenant(slug: str, options: dict[str, Any], n: int) -> Tenant:
    """The n-th organisation; each is another business."""
    world = World(
        planned_for(max(0, options["contacts"] - 1)),
        options["seed"] + n,
        lively=options["lively"],
        documented=options["contacts"] > 0,
        web_chat=options["web_chat"],
        hidden_numbers=options["hidden_numbers"],
        optional_fields=options["optional_fields"],
        uuid_ids=options["uuid_ids"],
    )
    return Tenant(slug, world, rate_limit=_limit(options))


def _limit(options: dict[str, Any]) -> RateLimit | None:
    if options["limit"] == "none":
        return None
    burst = options["per_minute"] * 3 // 2 if options["burst"] is None else options["burst"]
    return LIMITS[options["limit"]](options["per_minute"], burst)
