"""The wait loops of the senders' own SDKs, with a count of the calls that they make."""

import time
from collections.abc import Sequence
from typing import Any

import httpx
import parallel
import requests
import valyu

from receiver.sandbox import SandboxServer
from tests.conformance.cases import KEY, Case

POLL_SECONDS = 10.0
"""Between two polls where the loop is not the SDK's own: that of Valyu's loop."""


class SdkLoop:
    """Waits for a batch as the official SDK does, then asks for each result.

    `polls` and `calls` are counted on the wire. `saw_end` is when the loop saw the batch's end.
    """

    def __init__(
        self,
        case: Case,
        sandbox: SandboxServer,
        batch_id: str,
        task_id: str | None,
        *,
        runs: Sequence[str],
    ) -> None:
        self._wait = {"valyu": self._valyu, "parallel": self._parallel}.get(case.name, self._v0)
        self._sandbox = sandbox
        self._batch_id = batch_id
        self._task_id = task_id
        self._runs = runs
        self.calls = self.polls = 0
        self.saw_end = 0.0

    def run(self) -> None:
        """Wait until the batch has ended, then ask for its results."""
        self._wait()

    def _count(self, *_: Any, **__: Any) -> None:
        self.calls += 1

    def _ended(self) -> None:
        self.polls, self.saw_end = self.calls, time.monotonic()

    def _valyu(self) -> None:
        with requests.Session() as session:
            session.hooks["response"].append(self._count)
            client = valyu.Valyu(api_key=KEY, base_url=self._sandbox.api_url, session=session)
            client.batch.wait_for_completion(self._batch_id)
            self._ended()
            for run_id in self._runs:
                client.deepresearch.status(run_id)

    def _parallel(self) -> None:
        with self._wire() as wire:
            api = parallel.Parallel(api_key=KEY, base_url=self._sandbox.url, http_client=wire)
            while api.task_group.retrieve(self._batch_id).status.is_active:
                time.sleep(POLL_SECONDS)
            self._ended()
            for run_id in self._runs:
                try:
                    api.task_run.result(run_id)
                except parallel.APIStatusError as error:  # a failed run has no result
                    assert error.status_code == 404  # noqa: PT017

    def _v0(self) -> None:
        url = f"{self._sandbox.url}/v0/tasks/{self._task_id}"
        with self._wire(headers={"x-api-key": KEY}) as wire:
            while self._is_going_on(wire.get(f"{url}/batches/{self._batch_id}")):
                time.sleep(POLL_SECONDS)
            self._ended()
            for run_id in self._runs:
                wire.get(f"{url}/runs/{run_id}").raise_for_status()

    def _is_going_on(self, answer: httpx.Response) -> bool:
        shown: dict[str, list[str]] = answer.raise_for_status().json()["status_map"]
        ended = sum(len(shown.get(status, ())) for status in ("complete", "completed", "failed"))
        return ended < len(self._runs)

    def _wire(self, **more: Any) -> httpx.Client:
        return httpx.Client(event_hooks={"response": [self._count]}, trust_env=False, **more)
