"""Benchmarks: one command each, figures as ratios measured in one run.

    python -m benchmarks                    all of them, one after the other
    python -m benchmarks intake export      only these
    python -m benchmarks.intake             deliveries acknowledged per second, four servers
    python -m benchmarks.intake --steady    p50 and p99 at half of the maximum
    python -m benchmarks.export             a million results as CSV, against sqlite3 -csv

Each takes `--help` and `--json`. Absolute figures belong to one machine at one moment; the ratios
are the point, and differences under .05 say nothing. Nothing here is a timed test.
"""
