"""A process that writes into a journal and says which ids it was told are safe, until it is killed."""

import sys
import threading
from pathlib import Path

from keepfit.journal import ANSWER, New, Outcome, Writer


def main() -> None:
    writer = Writer(Path(sys.argv[1]))
    first = int(sys.argv[2])
    free = threading.Semaphore(16)

    def done(id_: int, outcome: Outcome) -> None:
        assert outcome == ()
        sys.stdout.write(f"{id_}\n")
        free.release()

    for id_ in range(first, first + 10**9):
        free.acquire()
        entry = New(ANSWER, id_, id_, "v1", 0.5, b'{"amount": 12.5}')
        assert writer.submit([entry], lambda outcome, id_=id_: done(id_, outcome))  # type: ignore[misc]
        sys.stdout.flush()


if __name__ == "__main__":
    main()
