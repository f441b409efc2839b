"""A single run as a person reads it: its status, its question, its result."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from receiver.cli.opening import existing_store
from receiver.cli.output import harmless, in_one_line, print_json, print_rows

if TYPE_CHECKING:
    from receiver.providers.base import Provider
    from receiver.providers.model import Artifact
    from receiver.settings import Settings
    from storage import Store

COLUMNS = ("source", "run_id", "status", "runner", "created_at", "completed_at", "cost")
ARTIFACTS = ("kind", "id", "title", "status", "url")


def show_stored(run_id: str, source: str | None, *, as_json: bool) -> None:
    """Print what is stored of a run."""
    from receiver.settings import load

    settings = load()
    with existing_store(settings) as store:
        facts, raw = store.runs.show(run_id, source=source)
        provider = provider_of(settings, facts["source"])
        if as_json:
            print_json(described(store, facts, artifacts_of(provider, raw)))
        else:
            print_run(facts, raw, provider)


def provider_of(settings: Settings, source: str) -> Provider | None:
    """Return the adapter of a source, or None where it is no longer configured."""
    from receiver.sources import configured

    found = configured(settings).get(source)
    return None if found is None else found.provider


def artifacts_of(provider: Provider | None, raw: Mapping[str, Any] | None) -> Sequence[Artifact]:
    """Return the files that a result points to."""
    from receiver.providers.capabilities.runs import HasArtifacts

    return provider.artifacts(raw) if raw and isinstance(provider, HasArtifacts) else ()


def described(
    store: Store, facts: Mapping[str, Any], artifacts: Sequence[Artifact]
) -> dict[str, object]:
    """Return all that is known of a run, for programs; URLs of artifacts keep their signature."""
    from storage import Selection

    known = ("source", "run_id", "batch_id", "status", "sender_status", "runner", "input")
    times = ("waits_for", "created_at", "seen_at", "origin", "found_by", "output_type", "pruned_at")
    selection = Selection(source=facts["source"], run_id=facts["run_id"])
    line = b"".join(store.export.json_lines(selection)) or b"null"
    return {
        **{name: facts[name] for name in (*known, *times)},
        "artifacts": [
            {name: getattr(artifact, name) for name in ARTIFACTS} for artifact in artifacts
        ],
        "result": json.loads(line),
    }


def print_run(
    facts: Mapping[str, Any], raw: Mapping[str, Any] | None, provider: Provider | None
) -> None:
    """Print a run for a person."""
    shown = {**facts, "status": facts["sender_status"] or facts["status"]}
    print_rows([shown], COLUMNS, nothing="")
    if facts["waits_for"] is not None:
        typer.echo(f"\n{question(facts, provider)}")
        typer.echo(harmless(json.dumps(facts["waits_for"], indent=2, ensure_ascii=False)))
    typer.echo(f"\n{outcome(facts, raw)}")
    if artifacts := artifacts_of(provider, raw):
        typer.echo("")
        print_rows([_row(artifact) for artifact in artifacts], ARTIFACTS, nothing="")


def question(facts: Mapping[str, Any], provider: Provider | None) -> str:
    """Return a sentence on what a run waits for, with the command that answers it."""
    from receiver.providers.capabilities.runs import AsksQuestions

    waits_for = facts["waits_for"]
    kind = in_one_line(waits_for.get("type") or "something")
    example = provider.example(waits_for) if isinstance(provider, AsksQuestions) else None
    answer = "JSON" if example is None else shlex.quote(json.dumps(example))
    is_paused = facts["sender_status"] == "paused"
    state = "is paused until it is answered" if is_paused else "awaits input"
    run_id = facts["run_id"]
    return f"{run_id} {state} ({kind}): resultsink task respond {run_id} --response {answer}"


def outcome(facts: Mapping[str, Any], raw: Mapping[str, Any] | None) -> str:
    """Return a sentence or two on the current result."""
    if facts["result_status"] is None:
        return "No result is stored yet."
    if facts["pruned_at"] is not None:
        pruned_at = in_one_line(facts["pruned_at"])
        return f"{facts['result_status']}, version {facts['version']}: content pruned {pruned_at}"
    raw = raw or {}
    parts = [in_one_line(raw["title"])] if raw.get("title") else []
    if facts["output_type"] == "contents":
        parts.append(f"{raw.get('urls_processed')} of {raw.get('urls_total')} URLs read")
    elif raw.get("output") is not None:
        output = raw["output"]
        length = len(output if isinstance(output, str) else json.dumps(output))
        parts.append(f"{facts['output_type'] or 'output'} of {length} characters")
    if isinstance(raw.get("sources"), list):
        parts.append(f"{len(raw['sources'])} sources")
    if facts["error"]:
        parts.append(in_one_line(facts["error"]))
    sentence = (
        f"{facts['result_status']}, version {facts['version']}: {', '.join(parts) or 'empty'}"
    )
    if facts["origin"] == "delivery":
        sentence += "\nThe sender has forgotten it: this is what its signed webhook carried."
    return sentence


def _row(artifact: Artifact) -> dict[str, object]:
    """Return a row for the table; the URL without its signature, which would open the file."""
    row = {name: getattr(artifact, name) for name in ARTIFACTS}
    if artifact.url is not None:
        try:
            parts = urlsplit(artifact.url)
            row["url"] = parts._replace(query="", fragment="").geturl()
            row["url"] += " (signed: see --json)" if parts.query else ""
        except ValueError:
            row["url"] = None
    return row
