"""``python -m keepfit``: the command line."""

from keepfit.cli import main

if __name__ == "__main__":
    main()
