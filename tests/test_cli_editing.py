"""A pipeline's file with another trigger: what changes, what stays, and when it is left alone."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.cli.editing import replaced
from keepfit.errors import ConfigError

NEW = 'triggers.OnDrift(drift.ADWIN()) | triggers.Every("7d")'

FILE = '''\
"""A pipeline: zażółć."""
from keepfit import Pipeline, drift, sources, triggers

rows = sources.Csv("zażółć/", time="t", label="y")  # the rows
churn = Pipeline(
    "churn",
    rows,
    model,
    trigger=triggers.Every("28d"),  # the old way
    enough=50,
)
'''


def edited(text: str, code: str = NEW, **parts: str) -> str:
    return replaced(text.encode(), "churn", {"trigger": code} | parts, file="churn.py").decode()


def test_only_the_trigger_changes() -> None:
    assert edited(FILE) == FILE.replace('triggers.Every("28d")', NEW)


def test_a_trigger_over_several_lines_is_replaced_inside_its_brackets() -> None:
    old = '(\n        triggers.Every("28d")\n        | triggers.OnDecay()\n    )'
    text = FILE.replace('triggers.Every("28d")', old)
    assert edited(text) == FILE.replace('triggers.Every("28d")', f"(\n        {NEW}\n    )")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('Pipeline("churn", rows, model)', 'Pipeline("churn", rows, model, trigger=T)'),
        ('Pipeline("churn", rows, model,)', 'Pipeline("churn", rows, model, trigger=T,)'),
        (
            'Pipeline(\n    "churn",\n    rows,\n    model,\n)',
            'Pipeline(\n    "churn",\n    rows,\n    model,\n    trigger=T,\n)',
        ),
        (
            'Pipeline(\n    "churn",\n    rows,\n    model  # ours\n)',
            'Pipeline(\n    "churn",\n    rows,\n    model,  # ours\n    trigger=T,\n)',
        ),
        (
            'Pipeline(\n    "churn",\n    rows,\n    [\n        1,\n    ],  # ours\n    # end\n)',
            'Pipeline(\n    "churn",\n    rows,\n    [\n        1,\n    ],  # ours\n    trigger=T,\n    # end\n)',
        ),
        (
            'Pipeline("churn",\n         rows,\n         model)',
            'Pipeline("churn",\n         rows,\n         model,\n         trigger=T)',
        ),
    ],
    ids=["one line", "a last comma", "a line each", "a comment", "brackets", "hanging"],
)
def test_a_trigger_that_is_not_there_is_added_as_the_last_argument_is(
    before: str, after: str
) -> None:
    head = "from keepfit import Pipeline, triggers\nchurn = "
    new = 'triggers.Every("7d")'
    expected = after.replace("trigger=T", f"trigger={new}")
    assert edited(f"{head}{before}\n", new) == f"{head}{expected}\n"


@pytest.mark.parametrize(
    ("imports", "made", "expected"),
    [
        ("from keepfit import Pipeline", "Pipeline", "triggers.Every"),
        ("from keepfit import Pipeline, triggers as on", "Pipeline", "on.Every"),
        ("import keepfit", "keepfit.Pipeline", "keepfit.triggers.Every"),
        ("import keepfit as kf", "kf.Pipeline", "kf.triggers.Every"),
        ("from keepfit import Pipeline as P, triggers", "P", "triggers.Every"),
    ],
    ids=["missing", "renamed", "whole", "whole, renamed", "the pipeline renamed"],
)
def test_names_are_written_as_the_file_has_them(imports: str, made: str, expected: str) -> None:
    text = f'{imports}\nchurn = {made}("churn", rows, model)\n'
    found = edited(text, 'triggers.Every("7d")')
    assert f'trigger={expected}("7d")' in found
    if imports == "from keepfit import Pipeline":
        assert found.startswith("from keepfit import Pipeline, triggers\n")
    else:
        assert found.startswith(imports + "\n")


def test_a_text_in_the_code_is_no_name() -> None:
    found = edited('import keepfit as kf\nkf.Pipeline("churn", r, m)\n', 'triggers.OnEvent("triggers.x")')  # fmt: skip
    assert 'kf.triggers.OnEvent("triggers.x")' in found


def test_other_parts_are_written_only_where_neither_they_nor_a_trigger_are() -> None:
    bare = 'from keepfit import Pipeline, gates, triggers\nPipeline("churn", r, m)\n'
    assert "gate=gates.Fresher()" in edited(bare, gate="gates.Fresher()")
    assert "Fresher" not in edited(bare.replace("m)", "m, gate=gates.Beats())"), gate="gates.Fresher()")  # fmt: skip
    assert "Fresher" not in edited(FILE, gate="gates.Fresher()")


def test_a_maximum_age_comes_with_the_trigger_or_in_the_place_of_its_own() -> None:
    found = edited(FILE, "triggers.OnEvent()", max_age='"40d"')
    expected = FILE.replace('triggers.Every("28d")', "triggers.OnEvent()")
    assert found == expected.replace("enough=50,\n", 'enough=50,\n    max_age="40d",\n')
    given = FILE.replace("enough=50", "max_age=None")
    assert 'max_age="40d",\n' in edited(given, "triggers.OnEvent()", max_age='"40d"')


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (FILE.replace('"churn"', '"other"'), "found 0"),
        (FILE + 'again = Pipeline("churn", rows, model)\n', "found 2"),
        (FILE.replace("enough=50,", "**more,"), "dictionary"),
        (FILE.replace("trigger=triggers.Every", "trigger=triggers  # so\n    .Every"), "a comment"),
        ("from keepfit import Pipeline\ntriggers = 3\nPipeline('churn', r, m)\n", "`triggers`"),
        ("churn = (\n", "no Python"),
        ("# coding: latin-1\n" + FILE, "iso-8859-1"),
        ("from other import Pipeline\nPipeline('churn', r, m)\n", "found 0"),
        (
            "from keepfit import Pipeline\nfor name in names:\n    made[name] = Pipeline(name, r, m)\n",
            "may make others too",
        ),
        (
            "from keepfit import Pipeline\ndef make(name):\n    return Pipeline(name, r, m)\n",
            "may make others too",
        ),
    ],
    ids=[
        *("absent", "twice", "hidden", "a comment", "a name taken", "broken", "encoding"),
        *("foreign", "a loop", "a function"),
    ],
)
def test_a_file_that_cannot_be_edited_safely_is_left_as_it_is(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=r"churn\.py is left as it is") as refused:
        edited(text, 'triggers.Every("7d")')
    assert why in refused.value.message
    assert "by hand" in str(refused.value.hint)


TRIVIA = st.sampled_from(["", "\n", "# a comment: é\n", "x = '''\n'''\n", "\n\n"])
SPACE = st.sampled_from(["", " ", "  # ż\n    ", "\n\n    "])


@given(
    before=TRIVIA,
    after=TRIVIA,
    spaces=st.tuples(SPACE, SPACE, SPACE, SPACE),
    given_=st.booleans(),
    comma=st.booleans(),
    windows=st.booleans(),
    marked=st.booleans(),
)
def test_whatever_the_layout_all_but_the_trigger_stays(
    before: str,
    after: str,
    spaces: tuple[str, ...],
    given_: bool,
    comma: bool,
    windows: bool,
    marked: bool,
) -> None:
    a, b, c, d = spaces
    old = f",{c}trigger = triggers.OnDecay()" if given_ else ""
    text = (
        f"from keepfit import Pipeline, drift, triggers\n{before}"
        f'é = Pipeline({a}"churn",{b}rows,{c}model{old}{"," if comma else ""}{d})\n{after}'
    )
    text = text.replace("\n", "\r\n") if windows else text
    content = (b"\xef\xbb\xbf" if marked else b"") + text.encode()
    found = replaced(content, "churn", {"trigger": NEW}, file="churn.py")
    call = next(
        node
        for node in ast.walk(ast.parse(found))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Pipeline"
    )
    written = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    assert written == {"trigger": ast.unparse(ast.parse(NEW))}
    assert not windows or b"\n" not in found.replace(b"\r\n", b"")
    # What stood in the file stands there still, in the same order.
    kept = content.replace(b"triggers.OnDecay()", b"")
    rest = iter(found.replace(NEW.encode(), b"").decode("utf-8"))
    assert all(letter in rest for letter in kept.decode("utf-8"))
