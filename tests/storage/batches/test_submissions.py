"""Unfinished submissions: only whoever has gone on last may end one."""

import pytest

from storage import NewSubmission, Store, StoredTask, SubmissionTaken


def test_submission_of_another_is_not_ended(store: Store) -> None:
    new = NewSubmission("valyu", "batch")
    begun = store.submissions.begin(new, [StoredTask(None, {"query": "q"}, {})])
    gone_on = store.submissions.calling(begun, "batch")
    with pytest.raises(SubmissionTaken):
        store.submissions.end(begun)
    assert [known.step for known in store.submissions.list_all()] == [gone_on.step]
    store.submissions.end(gone_on)
    store.submissions.end(gone_on)  # a repetition
    assert store.submissions.list_all() == []
