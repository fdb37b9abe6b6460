"""``python -m keepfit``: the command line."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it quietly also while it is being loaded."""
    try:
        from keepfit.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
