"""Refusing, in one sentence, what a source's sender has no capability for."""

from receiver.errors import UsageError
from receiver.providers.base import Provider
from receiver.providers.capabilities.batches import AddsToBatches, CreatesBatches, HasBatches
from receiver.providers.capabilities.runs import CreatesRuns


def require_single_runs(provider: Provider) -> CreatesRuns:
    """Return the provider as one that creates single runs; raises UsageError."""
    if isinstance(provider, CreatesRuns):
        return provider
    raise UsageError(
        f"The task was not created: {provider.name} has no single runs: make a batch of one with "
        "`batch create`."
    )


def require_batches(provider: Provider) -> HasBatches:
    """Return the provider as one that has batches; raises UsageError."""
    if isinstance(provider, HasBatches):
        return provider
    raise UsageError(f"{provider.name} has no batches: create single runs with `task create`.")


def require_new_batches(provider: Provider) -> CreatesBatches:
    """Return the provider as one that creates batches; raises UsageError."""
    provider = require_batches(provider)
    if isinstance(provider, CreatesBatches):
        return provider
    raise UsageError(
        f"{provider.name} has no call that creates batches: create them elsewhere, each with the "
        "URL of an endpoint from `endpoint add`."
    )


def require_additions(provider: Provider) -> AddsToBatches:
    """Return the provider as one whose batches take further tasks; raises UsageError."""
    provider = require_new_batches(provider)
    if isinstance(provider, AddsToBatches):
        return provider
    raise UsageError(f"{provider.name} makes all runs of a batch together with it.")
