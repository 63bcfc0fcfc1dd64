"""Serve the sandbox until interrupted."""

import argparse
import threading

from flowiq_source.sandbox import Sandbox, World
from flowiq_source.sandbox.dialects import DIALECTS


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m flowiq_source.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--contacts", type=int, default=12)
    parser.add_argument("--dialect", choices=DIALECTS, default="reference")
    options = parser.parse_args()
    world = World(options.contacts)
    with Sandbox(world, dialect=options.dialect, port=options.port) as sandbox:
        print(f"A FlowIQ sandbox with {options.contacts} contacts. In another terminal:\n")
        print(f"  export SOURCES__FLOWIQ__BASE_URL={sandbox.url}")
        print(f"  export SOURCES__FLOWIQ__BEARER_TOKEN={sandbox.token}")
        print(f"  export SOURCES__FLOWIQ__TENANT_ID={sandbox.tenant}")
        print("  make run")
        print(f"  curl -X POST '{sandbox.url}/sandbox/advance?hours=24'\n", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
