"""The process that takes part in a backtest: ``python -m keepfit.backtest.child FOLDER``.

Tasks come pickled on standard input, answers go out on what was standard output, and what the
user's code prints goes to standard error. It ends with its input, or with its parent.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import polars as pl

from keepfit import pickles
from keepfit.backtest.sharing import Answers, Trainings
from keepfit.backtest.stage import Progress, Stage
from keepfit.batch import Batch
from keepfit.lake import Replay
from keepfit.ledger import Ledger
from keepfit.scoring import Scorer

if TYPE_CHECKING:
    from keepfit.backtest.processes import Setting


def opened(folder: Path) -> Stage:
    """Return the stage that the files of a folder describe."""
    setting: Setting
    setting, cursor, watermark = pickles.loads((folder / "setting").read_bytes())
    history = Batch(
        rows=pl.read_ipc(folder / "rows.arrow"),
        labels=pl.read_ipc(folder / "labels.arrow"),
        cursor=cursor,
        watermark=watermark,
    )
    replay = Replay(history, roles=setting.pipeline.source.roles)
    pipeline = setting.pipeline.changed(source=replay.source())
    artifacts = Trainings(setting.artifacts, Path(setting.claims))
    return Stage(
        pipeline=pipeline,
        plan=setting.plan,
        replay=replay,
        rows=history.rows.height,
        own=Ledger(setting.ledger, durable=False),
        ledger=Ledger(":memory:"),
        artifacts=artifacts,
        scorer=Scorer(artifacts, pipeline.metric, shared=Answers(Path(setting.answers))),
    )


def main() -> None:
    """Do one task after another until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    try:
        stage = opened(Path(sys.argv[1]))
    except Exception as problem:
        # The user's code may need what only the process that it was written in has.
        _say(answers, "failed", f"{type(problem).__name__}: {problem}")
        return
    _say(answers, "ready", None)
    while True:
        try:
            task = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        _do(task, stage, answers)
    stage.pipeline.close()
    stage.own.close()


def _do(task: Any, stage: Stage, answers: BinaryIO) -> None:
    def tell(progress: Progress) -> None:
        told = progress.policy, progress.at, progress.done_rows, progress.rows
        _say(answers, "progress", told)

    try:
        answer = task.do(stage, tell)
    except Exception as problem:
        _say(answers, "raised", problem)
        return
    finally:
        if isinstance(stage.artifacts, Trainings):
            stage.artifacts.release()
    _say(answers, "done", answer)


def _say(answers: BinaryIO, kind: str, value: Any) -> None:
    answers.write(pickles.dumps_once((kind, value)))
    answers.flush()


def _watch(parent: int) -> None:
    """Leave when the parent has gone, in the middle of a task too."""
    never = threading.Event()
    while os.name == "posix":
        never.wait(1.0)
        if os.getppid() != parent:
            os._exit(0)


if __name__ == "__main__":
    main()
