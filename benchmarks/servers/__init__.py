"""The yardsticks and the sender, each an application that uvicorn runs in a process of its own.

They import as little as a user's own code would: nothing of resultsink. `benchmarks.compared` and
`benchmarks.sender` start them.
"""
