"""Options, sizes and endings that the benchmark commands share.

Each size has a value for the real measurement and one for `--quick`, which checks that a benchmark
works and whose figures mean nothing.
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table

from benchmarks import machine
from benchmarks.databases import KINDS
from benchmarks.rows import Row, show, table


class Command:
    """The parser of one benchmark."""

    def __init__(self, name: str, about: str | None, *, stores: bool = True) -> None:
        self.parser = argparse.ArgumentParser(
            prog=f"python -m benchmarks.{name}",
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._name = name
        self._sizes: dict[str, tuple[Any, Any]] = {}
        self.parser.add_argument("--json", action="store_true", help="print JSON, not tables")
        self.parser.add_argument("--quick", action="store_true", help="a short run, no figures")
        if stores:
            self.parser.add_argument("--store", choices=KINDS, default="sqlite")

    def size(
        self, flag: str, full: float, quick: float, about: str, *, type: Callable[[str], Any] = int
    ) -> None:
        """A number above zero, with its value for the real thing and for `--quick`."""
        self._sizes[flag.removeprefix("--").replace("-", "_")] = full, quick
        self.parser.add_argument(flag, type=type, help=f"{about} ({full:g}; --quick: {quick:g})")

    def read(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """The options, with every size decided; from now on SIGTERM unwinds."""
        options = self.parser.parse_args(arguments)
        for name, (full, quick) in self._sizes.items():
            if getattr(options, name) is None:
                setattr(options, name, quick if options.quick else full)
            if getattr(options, name) <= 0:
                self.parser.error(f"--{name.replace('_', '-')} must be above zero")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # processes end, files go
        return options

    def tell(
        self,
        options: argparse.Namespace,
        where: dict[str, str | int | float],
        rows: Sequence[Row],
        details: Mapping[str, Any],
        *shown: Table | str,
    ) -> int:
        """Print what was found; `shown` is what tables have beside the rows."""
        if options.json:
            plain = [row.as_dict() for row in rows]
            print(json.dumps({"machine": where, "rows": plain, "measured": details}))
            return 0
        show(machine.line(where), *shown, table(rows, self._name))
        return 0


def note(text: str) -> None:
    """Say on standard error how far a measurement is."""
    print(text, file=sys.stderr, flush=True)
