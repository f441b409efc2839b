"""Records of what a process did to its files and connections, by a shim or by strace."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE_CALLS = ("pwrite64", "ftruncate", "fdatasync", "fsync")
SENDS = ("write", "writev", "sendto", "sendmsg")
READS = ("read", "recvfrom")


@dataclass(frozen=True)
class Record:
    """One thing that happened. `kind` is one letter, the same for both tracers:

    W bytes were written to a file at an offset, T it was cut to that length, S a sync of it
    begins, D that sync is done; R bytes came from a connection, A bytes are about to be sent.
    What is done by the process stands where it was over, what it promises where it began.
    """

    kind: str
    descriptor: int
    offset: int
    path: str
    data: bytes


# --- the shim -----------------------------------------------------------------------------------


def build_shim(folder: Path, name: str = "shim.c") -> Path | None:
    """Compile shim.c, or another; None where there is no C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    source, library = Path(__file__).with_name(name), folder / f"{name}.so"
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-O1",
        "-o",
        str(library),
        str(source),
        "-ldl",
        "-lpthread",
    ]
    subprocess.run(command, check=True)  # noqa: S603  our own source
    return library


def read_shim(log: Path) -> Iterator[Record]:
    """The records of shim.c."""
    with log.open("rb") as file:
        while line := file.readline():
            kind, descriptor, offset, length, path = line.rstrip(b"\n").split(b" ", 4)
            data = file.read(int(length))
            yield Record(kind.decode(), int(descriptor), int(offset), path.decode(), data)


# --- strace -------------------------------------------------------------------------------------


def strace_command(log: Path) -> list[str] | None:
    """The words before a command that let strace watch it; None where that cannot be.

    With -D the process that is started is the command itself, and strace its grandchild.
    """
    strace = shutil.which("strace")
    if strace is None:
        return None
    calls = ",".join((*FILE_CALLS, *SENDS, *READS))
    options = ["-D", "-f", "-yy", "-xx", "-s", "1048576", "-e", f"trace={calls}", "-o", str(log)]
    works = subprocess.run([strace, *options, "true"], capture_output=True, check=False)  # noqa: S603
    return [strace, *options] if works.returncode == 0 else None


_LINE = re.compile(
    r"(?P<thread>\d+) +(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<call>\w+)\()(?P<rest>.*)"
)
_UNFINISHED = " <unfinished ...>"
_DESCRIPTOR = re.compile(r"(\d+)<(.*?)>(?:[,)]|$)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_RETURNED = re.compile(r"\) += (-?\d+)")


def read_strace(log: Path) -> Iterator[Record]:
    """The records in what strace wrote; a call that another interrupts stands on two lines."""
    begun: dict[str, str] = {}
    with log.open() as file:
        for line in file:
            match = _LINE.match(line)
            if match is None:
                continue
            thread, rest = match["thread"], match["rest"]
            if match["call"]:
                begun[thread] = rest.removesuffix(_UNFINISHED)
                yield from _entered(match["call"], begun[thread])
            if not rest.endswith(_UNFINISHED):
                called = begun.pop(thread, "") + (rest if match["resumed"] else "")
                yield from _returned(match["resumed"] or match["call"], called)


def _entered(call: str, rest: str) -> Iterator[Record]:
    descriptor, path = _descriptor(rest)
    if call in ("fdatasync", "fsync"):
        yield Record("S", descriptor, 0, path, b"")
    elif call in SENDS and path.startswith("TCP"):
        yield Record("A", descriptor, 0, "-", _bytes(rest))


def _returned(call: str, rest: str) -> Iterator[Record]:
    descriptor, path = _descriptor(rest)
    returned = _RETURNED.search(rest)
    if returned is None or int(returned[1]) < 0:
        return
    if call in ("fdatasync", "fsync"):
        yield Record("D", descriptor, 0, path, b"")
    elif call == "pwrite64":
        offset = int(rest[: returned.start()].rpartition(", ")[2])
        yield Record("W", descriptor, offset, path, _bytes(rest)[: int(returned[1])])
    elif call == "ftruncate":
        length = int(rest[: returned.start()].rpartition(", ")[2])
        yield Record("T", descriptor, length, path, b"")
    elif call in READS and path.startswith("TCP"):
        yield Record("R", descriptor, 0, "-", _bytes(rest))


def _descriptor(rest: str) -> tuple[int, str]:
    match = _DESCRIPTOR.match(rest)
    if match is None:
        return -1, ""
    return int(match[1]), _path(match[2])


def _path(shown: str) -> str:
    """A file's path from its escaped form; a connection's ends are shown plainly."""
    if not shown.startswith("\\x"):
        return shown
    return _unescaped(shown.partition("<")[0]).decode()


def _bytes(rest: str) -> bytes:
    return b"".join(_unescaped(text) for text in _TEXT.findall(rest))


def _unescaped(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
