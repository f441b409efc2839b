"""Verify: compare the store with the sender's API, run by run, and repair it where wanted.

Ids, states and contents are compared; what was pruned here, or is gone there, cannot be compared
and is named apart from the drift. The runs are read by the same code that fetches them.
"""

from receiver.work.verify.comparison import Difference, Kind
from receiver.work.verify.report import Report
from receiver.work.verify.verification import Verification

__all__ = ["Difference", "Kind", "Report", "Verification"]
