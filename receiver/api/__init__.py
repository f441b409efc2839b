"""The HTTP API for programs: endpoints, secrets, ledgers and results, by bearer tokens.

`ROUTES` lists all requests; `Api` is the application that `receiver.app` mounts.
"""

from receiver.api.access import SCOPES
from receiver.api.app import PREFIX, ROUTES, Api
from receiver.api.context import ApiContext

__all__ = [
    "PREFIX",
    "ROUTES",
    "SCOPES",
    "Api",
    "ApiContext",
]
