"""Reconcile: look now, without any webhook, for what never arrived.

First the sender's own listing, where it has one, for batches of ours that are unknown here or have
grown; then every open batch, awaited run and unbound endpoint, by its own check. What was stopped,
refused or broke off is named as incomplete: it is never taken for "nothing there".
"""

from receiver.work.reconcile.reconciliation import Reconciliation
from receiver.work.reconcile.report import Left, Report

__all__ = ["Left", "Reconciliation", "Report"]
