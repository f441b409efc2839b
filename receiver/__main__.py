"""`python -m receiver` is `resultsink`."""

from receiver.cli import main

main()
