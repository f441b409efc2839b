"""`python -m receiver` is `resultsink`."""

import gc


def main() -> None:
    """Load the command line and run it; ends the process.

    What loading makes stays for good. Looking through it for garbage, again and again while it
    grows, takes a fifth of the time in which `serve` starts.
    """
    gc.disable()
    from receiver import cli

    gc.freeze()
    gc.enable()
    cli.main()


if __name__ == "__main__":
    main()
