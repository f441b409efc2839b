"""An endpoint attached to what the sender made for it."""

from datetime import datetime

from sqlalchemy import Connection

from storage import jobs
from storage.encryption import Vault
from storage.endpoints import endpoints


def attach(
    connection: Connection,
    vault: Vault,
    endpoint_id: str,
    resource: str,
    *,
    secret: str | None = None,
    task_id: str | None = None,
    now: datetime,
) -> None:
    """Bind an endpoint to its resource, name that to its jobs, and add the signing secret if given.

    Raises NotFound where the endpoint is unknown, closed, or bound to another resource.
    """
    endpoints.bind(connection, endpoint_id, resource, task_id=task_id)
    jobs.learn_subject(connection, endpoint_id, resource)
    if secret is not None:
        endpoints.set_secret(connection, vault, endpoint_id, secret, now=now)
