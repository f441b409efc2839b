"""`python -m receiver` is `resultsink`."""

import gc
import os
import signal


def main() -> None:
    """Load the command line and run it; ends the process.

    While modules load, Ctrl-C ends the process at once, since an exception out of the middle of an
    import is wrapped or swallowed by whatever it meets; and no garbage is collected, since looking
    through what stays for good takes a fifth of the time. `receiver.cli.opening.begin_work` ends
    both, when a command has loaded what it needs.
    """
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it is not ignored
        signal.signal(signal.SIGINT, _leave)
    try:
        from receiver import cli

        cli.main()
    finally:
        gc.freeze()  # the exit looks through nothing either


def _leave(signum: int, frame: object) -> None:
    os._exit(128 + signum)


if __name__ == "__main__":
    main()
