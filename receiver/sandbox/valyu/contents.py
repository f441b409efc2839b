"""Contents jobs: URLs read in the background, announced under the same scheme as research."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from receiver.sandbox import content
from receiver.sandbox.answers import Refusal
from receiver.sandbox.switches import Panel, Switches
from receiver.sandbox.valyu.records import now
from receiver.sandbox.valyu.requests import CreateContents
from receiver.sandbox.valyu.results import given, milliseconds

PRICE = 0.001


@dataclass(eq=False, slots=True)
class Job:
    """A contents job; which of its URLs fail is known from the start."""

    urls: list[str]
    failing: frozenset[str]
    webhook_url: str | None
    secret: str | None
    job_id: str = field(default_factory=lambda: f"cj_{secrets.token_hex(8)}")
    status: str = "pending"
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)
    timer: asyncio.TimerHandle | None = None

    @property
    def failed_urls(self) -> int:
        """How many URLs can not be read."""
        return len([url for url in self.urls if url in self.failing])

    def move(self, status: str) -> None:
        """Takes another status, now."""
        self.status, self.updated_at = status, now()


class Contents:
    """All contents jobs; calls `announce` with each that has ended."""

    def __init__(self, panel: Panel, announce: Callable[[Job], None]) -> None:
        self._panel = panel
        self._announce = announce
        self.jobs: dict[str, Job] = {}

    def job(self, job_id: str) -> Job:
        """The job of that id; a 404 if there is none."""
        if (job := self.jobs.get(job_id)) is None:
            raise Refusal(404, "Job not found")
        return job

    def create(self, request: CreateContents) -> Job:
        """A pending job; `start` sets it going."""
        secret = secrets.token_hex(32) if request.webhook_url else None
        failing = self.failing(request.urls)
        job = Job(request.urls, failing, request.webhook_url, secret)
        self.jobs[job.job_id] = job
        return job

    def failing(self, urls: list[str]) -> frozenset[str]:
        """Those of the URLs that can not be read."""
        return frozenset(url for url in urls if self._panel.switches.fail_marker in url)

    def start(self, job: Job) -> None:
        """Sets a job going; it takes as long as a task does."""
        job.move("processing")
        switches = self._panel.switches
        seconds = content.dice(switches.seed, "duration", *job.urls).uniform(*switches.duration)
        if seconds == 0:
            self._finish(job)
        else:
            loop = asyncio.get_running_loop()
            job.timer = loop.call_later(seconds / switches.speed, self._finish, job)

    def _finish(self, job: Job) -> None:
        bad = job.failed_urls
        job.move("completed" if not bad else "partial" if bad < len(job.urls) else "failed")
        self._announce(job)

    def clear(self) -> None:
        """Forgets everything; what was going on ends without a word."""
        for job in self.jobs.values():
            if job.timer is not None:
                job.timer.cancel()
        self.jobs.clear()


def created(job: Job, origin: str) -> dict[str, Any]:
    """The answer of creating a job: the only one with its secret."""
    return given(
        success=True,
        job_id=job.job_id,
        status="pending",
        urls_total=len(job.urls),
        poll_url=f"{origin}/v1/contents/jobs/{job.job_id}",
        webhook_secret=job.secret,
        tx_id=f"tx_{job.job_id}",
    )


def view(job: Job, switches: Switches) -> dict[str, Any]:
    """The answer of a job's status, and the usual body of its webhook."""
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
    """What was read, URL by URL."""
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
