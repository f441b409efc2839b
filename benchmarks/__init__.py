"""Benchmarks: one command each, figures as ratios measured in one run.

    python -m benchmarks              all of them, one after the other, and the one table
    python -m benchmarks.intake       deliveries acknowledged per second, four servers
    python -m benchmarks.steady       p99 at half of the maximum
    python -m benchmarks.filled       the same with millions of events stored
    python -m benchmarks.calls        calls to bring in a batch, against the official SDKs
    python -m benchmarks.results      results stored per second
    python -m benchmarks.limit        how much of a limit of requests per second is used
    python -m benchmarks.export       a million results as CSV, against sqlite3 -csv
    python -m benchmarks.killed       kill -9 with 100,000 jobs waiting
    python -m benchmarks.starting     start-up to the first 200, idle memory
    python -m benchmarks.loaded       the most memory under load
    python -m benchmarks.command_start   processor time of short commands

Each takes `--help`, `--quick` and `--json`. Absolute figures belong to one machine at one moment;
the ratios are the point, and differences under .05 say nothing. Nothing here is a timed test.
docs/benchmarks.md says what each row means.
"""
