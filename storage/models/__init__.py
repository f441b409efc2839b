"""The tables. Each constraint and index has the promise that it keeps, or the query that it serves.

Facts (events, deliveries, results, attempts) are not rewritten for bookkeeping; what changes often
(jobs, source_state) is narrow. Times are aware datetimes in UTC. Text and JSON columns hold cleaned
values (no NUL, no lone surrogates); `raw` columns hold what was received.
"""

from storage.models.access import SERVING, Endpoint, IdempotencyKey, Meta, Secret, Token
from storage.models.columns import JSON_DOCUMENT, KEY, WAYS, FoundBy
from storage.models.deliveries import Delivery, Event, Quarantined
from storage.models.jobs import Attempt, Job, RateLimit, SourceState
from storage.models.runs import EMPTIED, Batch, Result, Run
from storage.models.submissions import SubmissionRow, SubmissionTask

__all__ = [
    "EMPTIED",
    "JSON_DOCUMENT",
    "KEY",
    "SERVING",
    "WAYS",
    "Attempt",
    "Batch",
    "Delivery",
    "Endpoint",
    "Event",
    "FoundBy",
    "IdempotencyKey",
    "Job",
    "Meta",
    "Quarantined",
    "RateLimit",
    "Result",
    "Run",
    "Secret",
    "SourceState",
    "SubmissionRow",
    "SubmissionTask",
    "Token",
]
