"""Compare the warehouse with the API, conversation by conversation.

Exit status: 0 they are equal; 1 they differ, or it could not be found out; 2 a setting or the
credentials are wrong.
"""

import argparse
import sys

from flowiq_pipeline import open_pipeline, reporting

from flowiq_source import flowiq_source, verify


@reporting
def main(options: argparse.Namespace) -> int:
    """Compare and print."""
    found = verify(
        open_pipeline(), flowiq_source(), from_last_sync=options.from_last_sync, mark=options.mark
    )
    print(found)
    return 1 if found.differences else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--from-last-sync", action="store_true", help="by what the last sync saw: no requests"
    )
    parser.add_argument(
        "--mark", action="store_true", help="have the next sync reread what differs"
    )
    parser.add_argument("--debug", action="store_true", help="print the traceback of a failure")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_options()))
