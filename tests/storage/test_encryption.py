"""Keys, and what they open."""

import errno
import os
import stat
from pathlib import Path

import pytest

from storage import CannotOpen, WrongKey, new_key
from storage.encryption import Vault, read_or_make_keys


def test_a_vault_opens_what_it_closed() -> None:
    vault = Vault([new_key()])
    assert vault.decrypt(vault.encrypt(b"\x00secret")) == b"\x00secret"


def test_every_key_opens_and_first_closes() -> None:
    old, new = new_key(), new_key()
    both = Vault([new, old])
    assert both.decrypt(Vault([old]).encrypt(b"secret")) == b"secret"
    assert Vault([new]).decrypt(both.encrypt(b"secret")) == b"secret"


@pytest.mark.parametrize("left", [0, 1, 60, -1])
def test_truncated_text_is_opened_by_none(left: int) -> None:
    vault = Vault([new_key()])
    with pytest.raises(WrongKey, match="does not open"):
        vault.decrypt(vault.encrypt(b"secret")[:left])


def test_a_key_opens_nothing_of_another() -> None:
    with pytest.raises(WrongKey):
        Vault([new_key()]).decrypt(Vault([new_key()]).encrypt(b"secret"))


@pytest.mark.parametrize("key", ["", "short", "é" * 44, "x" * 40, "_" * 44])
def test_malformed_key_is_refused_and_hidden(key: str) -> None:
    with pytest.raises(CannotOpen, match="not valid") as refusal:
        Vault([key])
    assert not key or key not in str(refusal.value)


def test_key_file_may_end_with_newline() -> None:
    key = new_key()
    assert Vault([f"{key}\n"]).decrypt(Vault([key]).encrypt(b"x")) == b"x"


def test_no_key_at_all_is_refused() -> None:
    with pytest.raises(CannotOpen):
        Vault([])


def test_key_file_is_private_to_owner(tmp_path: Path) -> None:
    path = tmp_path / "new.key"
    keys = read_or_make_keys(path, may_make=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_make_keys(path, may_make=False) == keys
    assert list(tmp_path.iterdir()) == [path]


def test_existing_key_file_is_used(tmp_path: Path) -> None:
    path = tmp_path / "old.key"
    path.write_text("newer\nolder\n")
    assert read_or_make_keys(path, may_make=True) == ["newer", "older"]
    assert path.read_text() == "newer\nolder\n"


def test_missing_key_file_is_wrong_key(tmp_path: Path) -> None:
    with pytest.raises(WrongKey, match="restore it from the backup"):
        read_or_make_keys(tmp_path / "gone.key", may_make=False)
    assert list(tmp_path.iterdir()) == []


def test_unreadable_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotOpen, match="cannot be read"):
        read_or_make_keys(tmp_path, may_make=True)
    with pytest.raises(CannotOpen, match="cannot be made"):
        read_or_make_keys(tmp_path / "no" / "folder", may_make=True)


def test_binary_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.key"
    path.write_bytes(b"\xff")
    with pytest.raises(CannotOpen, match="cannot be read"):
        read_or_make_keys(path, may_make=True)


def test_key_on_a_read_only_disk_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)  # the superuser may write anywhere else
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(CannotOpen, match=r"resultsink\.key cannot be made: Read-only file system"):
        read_or_make_keys(tmp_path / "resultsink.key", may_make=True)
