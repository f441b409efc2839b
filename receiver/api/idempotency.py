"""Idempotency-Key: a request that is repeated under its key is answered as the first time.

After the IETF draft "The Idempotency-Key HTTP Header Field".
"""

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import Final

from starlette.responses import Response

from receiver.api.requests import ApiRequest
from receiver.api.responses import CLOSE, RETRY_AFTER, Problem
from storage import Answered, CannotStore, KeyInProgress, KeyOfAnotherRequest

MAX_KEY: Final = 255

_KEY = re.compile(rf'"([ -!#-~]{{1,{MAX_KEY}}})"|([!#-~]{{1,{MAX_KEY}}})')
"""A structured field's string, in quotes; many clients leave these away."""


async def once(
    request: ApiRequest, handle: Callable[[ApiRequest], Awaitable[Response]]
) -> Response:
    """Return the handler's answer; the one that is stored where the request was answered before.

    A request that is refused leaves its key unused. Raises Problem: 400 for a key that is none, 409
    while the first request is in progress, 422 for the key of another request.
    """
    key = _key(request)
    if key is None:
        return await handle(request)
    request = replace(request, given=await request.read())
    keys, in_thread = request.context.store.idempotency_keys, request.context.in_thread
    mine = (request.token.id, key)
    try:
        begun = await in_thread(keys.begin, *mine, _fingerprint(request))
    except KeyInProgress:
        raise Problem(
            409,
            "The first request with this Idempotency-Key is in progress: try again in 5 seconds.",
            headers=RETRY_AFTER,
        ) from None
    except KeyOfAnotherRequest:
        raise Problem(
            422, "This Idempotency-Key was sent with another request: make a new one for each."
        ) from None
    if isinstance(begun, Answered):
        return _again(begun)
    try:
        response = await handle(replace(request, reserved=begun.resource))
    except Problem:
        await in_thread(keys.release, *mine)
        raise
    except BaseException:
        with suppress(CannotStore):  # then it is begun again when it cannot be in progress any more
            await in_thread(keys.interrupt, *mine)
        raise
    body = bytes(response.body).decode()
    await in_thread(keys.finish, *mine, response.status_code, body)
    return response


def _key(request: ApiRequest) -> str | None:
    given = request.request.headers.getlist("idempotency-key")
    if not given:
        return None
    found = _KEY.fullmatch(given[0].strip())
    if found is None or len(given) > 1:
        raise Problem(
            400,
            f"The header Idempotency-Key must be 1 to {MAX_KEY} printable ASCII characters, once: "
            "send a random UUID.",
            headers=CLOSE,
        )
    return found[1] or found[2]


def _fingerprint(request: ApiRequest) -> bytes:
    """Return a digest of the request; its body may hold a secret, and is not kept."""
    method, url = request.request.method, request.request.url
    digest = sha256(f"{method} {url.path}?{url.query}\n".encode())
    digest.update(request.given or b"")
    return digest.digest()


def _again(answered: Answered) -> Response:
    return Response(
        answered.body,
        answered.status,
        headers={"cache-control": "no-store", "idempotency-replayed": "true"},
        media_type="application/json",
    )
