"""One incremental sync of the configured FlowIQ tenant: `flowiq sync`, as a script to copy."""

import sys

from flowiq_source.cli.commands import flowiq

if __name__ == "__main__":
    flowiq(["sync", *sys.argv[1:]], prog_name="flowiq")
