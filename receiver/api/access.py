"""Access: bearer tokens, their scopes, and the one source of some."""

import re
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request

from receiver.api.context import ApiContext
from receiver.api.responses import CLOSE, Problem
from receiver.signatures.verify import behind_bearer
from storage import TokenExpired, TokenView

SCOPES: Final = ("read", "register")
"""read: ledgers and results; register: make endpoints, set their secrets, close them."""

_TOKEN = re.compile(rb"rs_[A-Za-z0-9_-]{43}")


async def authenticate(request: Request, context: ApiContext) -> TokenView:
    """Return the token of a request, read anew each time, so that a revoked one ends at once.

    Raises Problem, 401 with one text for all reasons; text that cannot be a token costs no read.
    """
    given = request.headers.getlist("authorization")
    shown = behind_bearer(given[0].encode("latin-1")) if len(given) == 1 else None
    found = _TOKEN.fullmatch(shown or b"")
    try:
        find = context.store.tokens.find
        token = await context.in_thread(find, found[0].decode()) if found else None
    except TokenExpired as expired:
        raise _unauthorized(given) from expired
    if token is None:
        raise _unauthorized(given)
    return token


def _unauthorized(given: Sequence[str]) -> Problem:
    challenge = 'Bearer error="invalid_token"' if given else "Bearer"
    return Problem(
        401,
        "Send the header `Authorization: Bearer TOKEN` with a valid token: "
        "see `resultsink token create --help`.",
        headers={"www-authenticate": challenge, **CLOSE},
    )


def require(token: TokenView, scope: str) -> None:
    """Raise Problem, 403, for a token without this scope."""
    if scope not in token.scopes:
        raise Problem(
            403,
            f"This token does not have the scope {scope}: "
            f"make one with `resultsink token create --name NAME --scope {scope}`.",
            headers={
                "www-authenticate": f'Bearer error="insufficient_scope", scope="{scope}"',
                **CLOSE,
            },
        )


def source_of(token: TokenView, wanted: str | None) -> str | None:
    """Return the source that a request is about, None for all; Problem, 403, for another's."""
    if token.source is None or wanted is None:
        return wanted if token.source is None else token.source
    if wanted != token.source:
        raise Problem(403, f"This token is for the source {token.source} alone: ask for that one.")
    return wanted
