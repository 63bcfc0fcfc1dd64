"""`dlt flowiq …`: the same commands behind dlt's own."""

import argparse

from dlt.common.configuration import plugins


class FlowiqCommand:
    """What dlt's command line needs to know; everything behind the name is `flowiq`'s."""

    command = "flowiq"
    help_string = "WhatsApp contacts and messages from FlowIQ: dlt flowiq --help"
    docs_url = None
    description = None
    parent = None
    compose = "replace"

    def configure_parser(self, parser: argparse.ArgumentParser) -> None:
        """Take everything."""
        parser.add_argument("words", nargs=argparse.REMAINDER)

    def execute(self, args: argparse.Namespace) -> None:
        """Run it."""
        from flowiq_source.cli.commands import flowiq  # noqa: PLC0415 - dlt asks at every start

        flowiq(args.words, prog_name="dlt flowiq")


@plugins.hookimpl(specname="plug_cli")
def plug_cli_flowiq(host: str = "dlt") -> type[FlowiqCommand] | None:
    """Add the command; dlt 1.30 asks without a host."""
    return FlowiqCommand if host == "dlt" else None
