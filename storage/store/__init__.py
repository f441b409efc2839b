"""The Store: one method for each verb, each written in the file of the noun that owns it.

Here only transactions are opened and nouns are put together, in one file for each kind of work.
Methods block; those that write return after the COMMIT and raise CannotStore (nothing was written)
when there could be none.
"""

from storage.store.batches import Batches
from storage.store.endpoints import Endpoints
from storage.store.export import Reading
from storage.store.fetching import Bringing
from storage.store.intake import Intake
from storage.store.jobs import Work
from storage.store.retention import Retention
from storage.store.runs import Runs
from storage.store.tokens import Tokens


class Store(Intake, Endpoints, Batches, Runs, Work, Bringing, Reading, Retention, Tokens):
    """The durable truth. Made by `storage.open`; safe to use from many threads."""
