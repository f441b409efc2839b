"""Run the benchmarks one after the other, each in a process of its own.

A process each, because what one leaves in memory must not slow down the next.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.processes import ROOT

BENCHMARKS = ("intake", "export", "calls")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, or all; give 1 if any of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="one JSON document per benchmark")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    failed = [name for name in options.names or BENCHMARKS if not _run(name, options.json)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, as_json: bool) -> bool:
    print(f"== {name}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--json"] if as_json else [])]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0  # noqa: S603  (our own command)
