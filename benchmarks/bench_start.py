"""How long it takes until keepfit is there: imports and help, as whole processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass (the floor)": [sys.executable, "-c", "pass"],
    "import keepfit": [sys.executable, "-c", "import keepfit"],
    "keepfit --help": [sys.executable, "-m", "keepfit", "--help"],
}


def main() -> list[str]:
    """Return the lines of the report."""
    lines = ["## Start", "", "| | median ms of 11 |", "|---|---|"]
    for name, command in COMMANDS.items():
        subprocess.run(command, check=True, capture_output=True)
        took = []
        for _ in range(11):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            took.append(time.perf_counter() - start)
        lines.append(f"| {name} | {1000 * statistics.median(took):.0f} |")
    return [*lines, ""]


if __name__ == "__main__":
    print("\n".join(main()))
