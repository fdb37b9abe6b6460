"""What holds of relevance, on every table."""

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.facts import decode, encode
from keepfit.profile import Profile
from keepfit.relevance import Change, Known, RowMemory, Usual, assess, row_relevance

wild = st.none() | st.floats() | st.sampled_from([0.0, -0.0, 1e300, 5e-324])
words = st.none() | st.text(max_size=3)


@st.composite
def tables(draw: st.DrawFn, least: int = 0) -> pl.DataFrame:
    """Return tables of numbers, texts and flags, with values that break things."""
    count = draw(st.integers(least, 80))
    return pl.DataFrame(
        {
            "number": draw(st.lists(wild, min_size=count, max_size=count)),
            "text": draw(st.lists(words, min_size=count, max_size=count)),
            "flag": draw(st.lists(st.none() | st.booleans(), min_size=count, max_size=count)),
        },
        schema={"number": pl.Float64, "text": pl.String, "flag": pl.Boolean},
    )


@given(tables(least=1))
def test_every_training_row_is_redundant_and_a_memory_survives_its_bytes(
    rows: pl.DataFrame,
) -> None:
    memory = RowMemory.fit(rows, Profile.of(rows))
    expected = 1.0 if memory.columns else None
    assert memory.redundant(rows) == expected
    assert RowMemory.loads(memory.dumps()) == memory


@given(tables(least=1), tables())
def test_the_redundant_share_is_that_of_each_row_by_itself(
    rows: pl.DataFrame, others: pl.DataFrame
) -> None:
    memory = RowMemory.fit(rows, Profile.of(rows))
    share = memory.redundant(others)
    alone = [memory.redundant(others[i : i + 1]) for i in range(others.height)]
    if share is None:
        assert set(alone) <= {None}
    else:
        assert share == np.mean([one for one in alone if one is not None])
    turned = others.reverse()
    assert memory.redundant(turned) == share


@settings(max_examples=50)
@given(
    tables(least=1),
    tables(),
    st.none() | st.tuples(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.2)),
    st.integers(0, 2**31),
)
def test_a_batch_gets_one_of_four_verdicts_with_reasons_that_can_be_kept(
    rows: pl.DataFrame, batch: pl.DataFrame, change: tuple[float, ...] | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    harm = None
    if change is not None:
        value, half, margin = change
        harm = Change(metric="log_loss", value=value, low=value - half, margin=margin)
    known = Known(
        memory=RowMemory.fit(rows, Profile.of(rows)),
        scores=rng.random(batch.height),
        labels=rng.integers(-1, 2, batch.height),
        usual=Usual.of(rng.random(50), rng.integers(0, 2, 50)),
        change=harm,
    )
    fact = assess(3, "v1", batch, known)
    assert fact.verdict in ("ignore", "keep", "learn", "quarantine")
    assert fact.reasons
    assert all(fact.reasons)
    assert decode(encode(fact)) == fact
    assert assess(3, "v1", batch, known) == fact
    if harm is not None and harm.value <= harm.margin:
        assert fact.verdict != "quarantine"


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["binary", "multiclass", "regression"]))
def test_relevance_is_a_number_above_zero_per_row_and_the_same_twice(seed: int, task: str) -> None:
    rng = np.random.default_rng(seed)
    rows = pl.DataFrame({"x": rng.normal(size=500), "_label": rng.integers(0, 3, 500)})
    if task == "binary":
        rows = rows.with_columns(pl.col("_label") % 2)
    weights = row_relevance(rows, task=task, seed=seed)
    assert weights.shape == (500,)
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    assert row_relevance(rows, task=task, seed=seed).tolist() == weights.tolist()
