"""Contents jobs: URLs read in the background, and announced like tasks and batches."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from receiver.sandbox import content
from receiver.sandbox.clock import PlannedCall
from receiver.sandbox.responses import Refusal, given
from receiver.sandbox.switches import Panel, Switches
from receiver.sandbox.valyu.requests import CreateContents
from receiver.sandbox.valyu.results import milliseconds

PRICE = 0.001
"""USD per URL that was read."""


@dataclass(eq=False, slots=True)
class ContentsJob:
    """A contents job; its failing URLs are decided when it is created."""

    urls: list[str]
    failing: frozenset[str]
    webhook_url: str | None
    secret: str | None
    created_at: datetime
    updated_at: datetime
    job_id: str = field(default_factory=lambda: f"cj_{secrets.token_hex(8)}")
    status: str = "pending"
    timer: PlannedCall | None = None

    @property
    def failed_urls(self) -> int:
        """Number of URLs that cannot be read."""
        return len([url for url in self.urls if url in self.failing])

    def move(self, status: str, at: datetime) -> None:
        """Take another status at this time."""
        self.status, self.updated_at = status, at


class ContentsJobs:
    """All contents jobs; calls `announce` with each that has ended."""

    def __init__(self, panel: Panel, announce: Callable[[ContentsJob], None]) -> None:
        self._panel = panel
        self._announce = announce
        self.jobs: dict[str, ContentsJob] = {}

    def job(self, job_id: str) -> ContentsJob:
        """Return the job with this id; an unknown id is a 404."""
        if (job := self.jobs.get(job_id)) is None:
            raise Refusal(404, "Job not found")
        return job

    def create(self, request: CreateContents) -> ContentsJob:
        """Make a pending job, which `start` starts."""
        secret = secrets.token_hex(32) if request.webhook_url else None
        failing = self.failing(request.urls)
        now = self._panel.clock.now()
        job = ContentsJob(request.urls, failing, request.webhook_url, secret, now, now)
        self.jobs[job.job_id] = job
        return job

    def failing(self, urls: list[str]) -> frozenset[str]:
        """Return those of the URLs that cannot be read."""
        return frozenset(url for url in urls if self._panel.switches.fail_marker in url)

    def start(self, job: ContentsJob) -> None:
        """Start a job; it takes as long as a task does."""
        job.move("processing", self._panel.clock.now())
        switches = self._panel.switches
        seconds = content.dice(switches.seed, "duration", *job.urls).uniform(*switches.duration)
        if seconds == 0:
            self._finish(job)
        else:
            finish = partial(self._finish, job)
            job.timer = self._panel.clock.call_after(seconds / switches.speed, finish)

    def _finish(self, job: ContentsJob) -> None:
        bad = job.failed_urls
        status = "completed" if not bad else "partial" if bad < len(job.urls) else "failed"
        job.move(status, self._panel.clock.now())
        self._announce(job)

    def clear(self) -> None:
        """Forget all jobs, and announce nothing more."""
        for job in self.jobs.values():
            if job.timer is not None:
                job.timer.cancel()
        self.jobs.clear()


def created(job: ContentsJob, origin: str) -> dict[str, Any]:
    """Return the answer to the creation of a job, the only one with its secret."""
    return given(
        success=True,
        job_id=job.job_id,
        status="pending",
        urls_total=len(job.urls),
        poll_url=f"{origin}/v1/contents/jobs/{job.job_id}",
        webhook_secret=job.secret,
        tx_id=f"tx_{job.job_id}",
    )


def view(job: ContentsJob, switches: Switches) -> dict[str, Any]:
    """Return a job as its status shows it, which is also the usual body of its webhook."""
    done = job.status not in ("pending", "processing")
    bad = job.failed_urls if done else 0
    good = len(job.urls) - bad if done else 0
    return given(
        success=True,
        job_id=job.job_id,
        status=job.status,
        urls_total=len(job.urls),
        urls_processed=good,
        urls_failed=bad,
        created_at=milliseconds(job.created_at),
        updated_at=milliseconds(job.updated_at),
        results=results(job.urls, job.failing, switches) if done else None,
        actual_cost_dollars=good * PRICE if done else None,
    )


def results(urls: list[str], failing: frozenset[str], switches: Switches) -> list[dict[str, Any]]:
    """Return what was read from each URL."""
    return [
        {"url": url, "status": "failed", "error": "The page could not be read"}
        if url in failing
        else _page(url, content.report(url, seed=switches.seed, size=switches.output_bytes))
        for url in urls
    ]


def _page(url: str, text: str) -> dict[str, Any]:
    return {
        "url": url,
        "status": "success",
        "title": content.title(url),
        "content": text,
        "length": len(text),
        "source": "web",
        "source_type": "website",
    }
