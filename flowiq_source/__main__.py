"""`python -m flowiq_source`, the same as `flowiq`."""

from flowiq_source.cli.commands import main

main()
