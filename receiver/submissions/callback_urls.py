"""Callback URLs for batches and single runs that are created, and the secrets to verify them."""

from collections.abc import Callable
from datetime import timedelta

from receiver.errors import UsageError
from receiver.providers.model import Callback, Created
from receiver.signatures.verify import prepare
from receiver.sources import Source, webhook_url


def reachable(public_url: str | None) -> str:
    """Return our address as senders reach it; raises UsageError where none is set."""
    if public_url is None:
        raise UsageError(
            "The setting public_url is missing: set RESULTSINK_PUBLIC_URL to the https "
            "address at which the sender reaches this receiver."
        )
    return public_url


def in_words(span: timedelta) -> str:
    """Return a time of some minutes or seconds as a sentence has it."""
    seconds = span.total_seconds()
    if seconds < 120:
        return f"{seconds:g} seconds"
    return f"{seconds / 60:.3g} minutes"


def account_callback(
    source: Source, public_url: str | None, *, warn: Callable[[str], None], first: str
) -> Callback | None:
    """Return the account's own URL; None, after a warning, where no webhook could be verified.

    `first` says in the warning when the first check follows.
    """
    if not source.account_keys:
        warn(
            f"No signing_secrets are set for source {source.name}: no webhooks are asked "
            "for, since none could be verified, and results are found by checks, the first "
            f"after {first}."
        )
        return None
    return Callback(webhook_url(reachable(public_url), source.name), secret="")


def usable_secret(
    source: Source, made: Created, endpoint_id: str, *, warn: Callable[[str], None], first: str
) -> str | None:
    """Return the secret of what was made; None, after a warning, where it cannot be used.

    `first` says in the warning when the first check follows.
    """
    why = f"The sender gave no signing secret for {made.id}"
    if made.is_found:
        why = f"The sender's answer with the signing secret of {made.id} was lost"
    if made.secret is not None:
        try:
            prepare(source.scheme, made.secret)
        except ValueError as error:
            why = f"The signing secret for {made.id} cannot be used ({error})"
        else:
            return made.secret
    warn(
        f"{why}: its webhooks cannot be verified, so its results are found by checks, the "
        f"first after {first}. If the sender shows you a secret: "
        f"endpoint secret {endpoint_id}."
    )
    return None
