"""A delivery that comes a thousand times has its effect once."""

import threading
from collections import Counter
from contextlib import closing
from http.client import HTTPConnection
from itertools import count

from tests.chaos import batches
from tests.chaos.books import Books, half_done, repeated
from tests.chaos.conftest import Say
from tests.chaos.places import Place
from tests.chaos.processes import Receiver, sandbox
from tests.chaos.sending import ANSWER_LIMIT, Delivery, post
from tests.processes import DEADLINE, HOST, until

TIMES = 1000
CONNECTIONS = 32
TASKS = 20


def test_thousand_copies_leave_one_event(place: Place, say: Say) -> None:
    """32 connections send the end of one batch; all are answered 200, one of them `accepted`."""
    with sandbox(duration=0, webhook=False, max_page_size=7) as sender:
        receiver = Receiver(place, sender.api_url)
        try:
            receiver.start()
            batch_id = batches.create(receiver, "the one", tasks=TASKS)
            endpoint = batches.endpoint_of(receiver, batch_id)
            body = batches.batch_at_sender(sender, batch_id)
            answers = _at_once(receiver.port, Delivery(endpoint, body))
            say(f"answers {dict(answers)}")
            assert answers == {(200, "accepted"): 1, (200, "duplicate"): TIMES - 1}
            books = receiver.books
            until(lambda: not books.open_batches() and not books.unfinished())
            _check_the_books(books, batch_id)
            outputs = batches.outputs_at_sender(sender, batch_id)
            assert len(outputs) == TASKS
            assert books.outputs(batch_id) == outputs
        finally:
            receiver.end()


def _at_once(port: int, delivery: Delivery) -> Counter[tuple[int, str]]:
    """Deliver TIMES times from all connections, which begin together."""
    answers: Counter[tuple[int, str]] = Counter()
    turns, together = count(), threading.Barrier(CONNECTIONS)

    def run() -> None:
        mine: Counter[tuple[int, str]] = Counter()
        with closing(HTTPConnection(HOST, port, timeout=ANSWER_LIMIT)) as connection:
            connection.connect()
            together.wait(DEADLINE)
            while next(turns) < TIMES:
                mine[post(connection, delivery)] += 1
        answers.update(mine)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    return answers


def _check_the_books(books: Books, batch_id: str) -> None:
    assert books.number("SELECT count(*) FROM events") == 1
    assert books.rows("SELECT copies FROM deliveries") == [(TIMES - 1,)]
    assert books.rows("SELECT subject, status FROM jobs WHERE kind = 'fetch'") == [
        (batch_id, "done")
    ]
    assert books.number("SELECT count(*) FROM results") == TASKS
    assert repeated(books) == 0
    assert half_done(books) == 0
