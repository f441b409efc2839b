"""Run the simulated senders as a process, for tests in any language.

The first line of output is JSON, {"url": ...}; from then on the sandbox takes connections.
"""

import argparse
import json
import sys

from receiver.sandbox.server import run
from receiver.sandbox.switches import SandboxError, Switches, assignments, described, parse


def main() -> None:
    """Read the arguments and serve until interrupted; exit with 2 on wrong use."""
    parser = _parser()
    given = parser.parse_args()
    try:
        switches = parse(Switches, assignments(given.set))
        run(given.host, given.port, switches, started=_print_url)
    except SandboxError as error:
        parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {each.name}={each.default}  {each.meaning}" for each in described()]
    parser = argparse.ArgumentParser(
        prog="python -m receiver.sandbox",
        description=__doc__,
        epilog="\n".join(["switches and their defaults:", *lines]).replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address of this machine")
    parser.add_argument("--port", type=int, default=9009, help="port; 0 takes a free one")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a switch; can be repeated",
    )
    return parser


def _print_url(url: str) -> None:
    sys.stdout.write(json.dumps({"url": url}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
