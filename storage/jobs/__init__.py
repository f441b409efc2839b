"""The one state machine of all background work.

    from       to         by            when
    ---------  ---------  ------------  -------------------------------------------------
    -          pending    enqueue       with the event, batch or endpoint that needs it
    -          dead       enqueue       a verified but unusable delivery
    pending    running    claim         a worker has a free slot; counted in `claims`
    pending    running    claim_these   somebody looks now, whenever it is due; counted likewise
    running    done       finish        what the job is for is stored
    running    pending    reschedule    tried again later; `failures` grows only where it failed
    running    pending    put_back      the source was refused; nothing is counted
    running    pending    give_back     a clean stop; the claim is not counted
    running    pending    release       the lease ran out; `claims` stays, so poison shows
    running    dead       bury          no further attempt can help, or MAX_CLAIMS workers died
    dead       pending    replay        an operator says so, of one or by a filter
    pending    pending    checks.hurry  there is news of its subject, or somebody waits: due sooner
    pending    done       checks.end    nothing is left to look for
    pending    done       checks.adopt  an endpoint's own check looks at this batch from now on

One transition is one function inside the caller's transaction and one compare-and-set on id,
status and lease token. A worker whose lease somebody else has taken gets LeaseLost and has written
nothing. `claims` counts the claims since the last outcome, so that a job which kills its worker
ends as a dead letter although no worker lives to count the failure.
"""

from storage.jobs.claims import claim, claim_these, lock_claims
from storage.jobs.moves import fence, lost, statuses
from storage.jobs.new import enqueue, learn_subject
from storage.jobs.outcomes import (
    acquit_all,
    bury,
    finish,
    finish_all,
    put_back,
    reschedule,
    save_progress,
    save_progress_of,
)
from storage.jobs.recovery import MAX_CLAIMS, give_back, release, renew, replay, replay_all

__all__ = [
    "MAX_CLAIMS",
    "acquit_all",
    "bury",
    "claim",
    "claim_these",
    "enqueue",
    "fence",
    "finish",
    "finish_all",
    "give_back",
    "learn_subject",
    "lock_claims",
    "lost",
    "put_back",
    "release",
    "renew",
    "replay",
    "replay_all",
    "reschedule",
    "save_progress",
    "save_progress_of",
    "statuses",
]
