"""An account's secrets: from the settings and from a file, which may change and may break."""

import os
from pathlib import Path
from typing import Any

import pytest

from receiver.errors import UsageError
from receiver.signatures.account_keys import MAX_FILE_BYTES, AccountKeys
from receiver.signatures.schemes import BEARER, STANDARD_WEBHOOKS, TIMESTAMP_BODY
from receiver.sources import configured
from receiver.telemetry import logs
from tests.receiver.conftest import OTHER_SECRET, SECRET, settings

FILE = Path("secrets.txt")
THIRD = "third-secret-third-secret"


def write(*lines: str) -> Path:
    """The file with these lines, as new to whoever looks at it."""
    before = FILE.stat().st_mtime_ns if FILE.exists() else 0
    FILE.write_text("\n".join(lines) + "\n")
    os.utime(FILE, ns=(before + 10**9, before + 10**9))
    return FILE


def folder() -> None:
    """A folder where the file was."""
    FILE.unlink()
    FILE.mkdir()


def account(*secrets: str, path: Path | None = FILE) -> AccountKeys:
    return AccountKeys("valyu", TIMESTAMP_BODY, secrets, path)


def test_file_secrets_precede_those_of_settings() -> None:
    write("# rotated in May", "", f"  {SECRET}  ", OTHER_SECRET, "#" + THIRD)
    keys = account(THIRD)
    assert keys.texts == (SECRET, OTHER_SECRET, THIRD)
    assert [key.secret_id for key in keys.keys] == [-1, -2, -3]


def test_source_has_keys_of_its_file() -> None:
    source = configured(settings(signing_secrets_file=write(SECRET)))["valyu"]
    (before,) = source.account_keys
    assert source.account.is_watched
    write(OTHER_SECRET)
    assert source.account.look()
    assert source.account_keys != (before,)


class BeingWritten(type(FILE)):  # type: ignore[misc]  # the platform's kind of path
    """A path whose file is written anew while it is read, as often as `writes` says."""

    writes = 0

    def open(self, *args: Any, **more: Any) -> Any:
        if self.writes:
            self.writes -= 1
            write(OTHER_SECRET)
        return super().open(*args, **more)


def test_half_written_file_is_read_again() -> None:
    path = BeingWritten(write(SECRET))
    keys = account(path=path)
    write(THIRD)
    path.writes = 1
    assert not keys.look()
    assert keys.texts == (SECRET,)
    assert keys.look()
    assert keys.texts == (OTHER_SECRET,)


def test_file_change_is_read_once() -> None:
    write(SECRET)
    keys = account()
    before = keys.keys
    assert not keys.look()
    assert keys.keys is before
    write(OTHER_SECRET, SECRET)
    assert keys.look()
    assert keys.texts == (OTHER_SECRET, SECRET)
    assert not keys.look()


def test_replaced_file_is_a_change() -> None:
    keys = account(path=write(SECRET))
    at = FILE.stat().st_mtime_ns
    other = Path("other.txt")
    other.write_text(OTHER_SECRET[: len(SECRET)] + "\n")
    os.utime(other, ns=(at, at))
    other.replace(FILE)
    assert keys.look()
    assert keys.texts == (OTHER_SECRET,)


BROKEN: dict[str, Any] = {
    "is gone": FILE.unlink,
    "is empty": lambda: write(""),
    "holds comments only": lambda: write("# nothing"),
    "is no text": lambda: FILE.write_bytes(b"\xff\xfe\x00"),
    "holds quotes": lambda: write(f'"{SECRET}"'),
    "holds a short secret": lambda: write("short"),
    "holds two on a line": lambda: write(f"{SECRET} {OTHER_SECRET}"),
    "is a folder": folder,
    "is endless": lambda: FILE.write_text("#" * (MAX_FILE_BYTES + 1)),
    "holds too many": lambda: write(*[f"{SECRET}{number}" for number in range(11)]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_file_keeps_last_secrets(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=True)
    keys = account(path=write(SECRET))
    BROKEN[case]()
    for _ in range(3):
        assert not keys.look()
    assert keys.texts == (SECRET,)
    logs.flush()
    said = capsys.readouterr().err
    assert said.count("signing secrets stay as they were") == 1
    assert "signing_secrets_file" in said
    assert SECRET not in said
    if FILE.is_dir():
        FILE.rmdir()
    write(OTHER_SECRET)
    assert keys.look()


@pytest.mark.parametrize("case", BROKEN)
def test_file_broken_at_start_is_refused(case: str) -> None:
    write(SECRET)
    BROKEN[case]()
    with pytest.raises(UsageError) as refusal:
        account()
    sentence = str(refusal.value)
    assert sentence.startswith("The setting sources.valyu.signing_secrets_file is wrong: secrets")
    assert "\n" not in sentence
    assert SECRET not in sentence


def test_settings_errors_do_not_blame_file() -> None:
    with pytest.raises(UsageError, match=r"valyu\.signing_secrets is wrong: the signing secret is"):
        account("short", path=write(SECRET))
    with pytest.raises(UsageError, match=r"valyu\.signing_secrets is wrong: there are too many"):
        account(*[f"{SECRET}{number}" for number in range(11)], path=None)


@pytest.mark.parametrize("scheme", [STANDARD_WEBHOOKS, BEARER])
def test_two_readings_count_twice(scheme: Any) -> None:
    secrets = [f"whsec_{SECRET}{number}000" for number in range(6)]
    assert len(AccountKeys("valyu", scheme, secrets[:5]).keys) == 10
    with pytest.raises(UsageError, match="too many"):
        AccountKeys("valyu", scheme, secrets)


def test_dubious_secrets_are_reported_to_server(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(json=True)
    for scheme in (STANDARD_WEBHOOKS, TIMESTAMP_BODY):
        AccountKeys("valyu", scheme, [f"whsec_{SECRET}", OTHER_SECRET]).warn()
    logs.flush()
    (line,) = capsys.readouterr().err.splitlines()
    assert '"place": 2' in line.replace('":2', '": 2')
    assert "does not begin with whsec_" in line
    assert OTHER_SECRET not in line
