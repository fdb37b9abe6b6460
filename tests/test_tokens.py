"""Tokens: made once, kept without their secret, good until they are revoked."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.errors import ConfigError, KeepfitError, VersionUnknown
from keepfit.tokens import PREFIX, ROLES, Known, Tokens, digest, tokens_of
from tests.shell import keepfit


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tokens_of(tmp_path / "home"))


def test_a_token_is_found_by_its_secret_until_it_is_revoked(tokens: Tokens) -> None:
    secret = tokens.make("shop", ["label", "predict"], by="ada", pipelines=["churn"])
    found = tokens.known().find(secret)
    assert found is not None
    assert (found.name, found.roles, found.pipelines) == ("shop", ("predict", "label"), ("churn",))
    assert found.allows("predict", "churn")
    assert not found.allows("predict", "flights")
    assert not found.allows("operate", "churn")
    gone = tokens.revoke("shop", by="bob")
    assert (gone.made_by, gone.revoked_by) == ("ada", "bob")
    assert not gone.allows("predict", "churn")
    assert tokens.known().find(secret) is None


def test_no_file_of_a_home_holds_a_secret(tokens: Tokens) -> None:
    secret = tokens.make("shop", ROLES, by="ada")
    assert secret.startswith(PREFIX)
    assert len(secret) == len(PREFIX) + 43
    kept = b"".join(path.read_bytes() for path in tokens.path.parent.iterdir())
    assert secret.removeprefix(PREFIX).encode() not in kept
    assert digest(secret) in kept
    assert "digest" not in tokens.all()[0].to_dict()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_the_file_is_its_owners_alone_whatever_the_umask(tokens: Tokens) -> None:
    before = os.umask(0)
    try:
        tokens.make("shop", ["read"], by="ada")
    finally:
        os.umask(before)
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600


def test_a_name_is_free_again_once_its_token_is_revoked_and_both_are_kept(tokens: Tokens) -> None:
    first = tokens.make("shop", ["read"], by="ada")
    with pytest.raises(ConfigError, match="expected a new name, got 'shop'"):
        tokens.make("shop", ["read"], by="ada")
    tokens.revoke("shop", by="ada")
    second = tokens.make("shop", ["predict"], by="bob")
    assert [(one.made_by, one.revoked_by) for one in tokens.all()] == [
        ("ada", "ada"),
        ("bob", None),
    ]
    assert tokens.known().find(first) is None
    assert tokens.known().find(second) is not None


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a/b", "ä", "a" * 65, "a for b"])
def test_a_name_that_is_none_is_refused(tokens: Tokens, name: str) -> None:
    with pytest.raises(ConfigError, match="expected a name of a token"):
        tokens.make(name, ["read"], by="ada")
    assert not tokens.exist()


def test_a_role_that_is_none_is_refused_with_the_nearest(tokens: Tokens) -> None:
    with pytest.raises(ConfigError) as caught:
        tokens.make("shop", ["predit"], by="ada")
    assert caught.value.hint == "the nearest is 'predict'"
    with pytest.raises(ConfigError, match="expected a role, got none"):
        tokens.make("shop", [], by="ada")


def test_a_token_that_is_none_cannot_be_revoked(tokens: Tokens) -> None:
    with pytest.raises(VersionUnknown, match=r"expected one of the tokens \(none\)"):
        tokens.revoke("shop", by="ada")
    tokens.make("shop", ["read"], by="ada")
    with pytest.raises(VersionUnknown) as caught:
        tokens.revoke("shp", by="ada")
    assert caught.value.hint == "the nearest is 'shop'"


def test_a_file_that_is_no_store_or_a_newer_one_is_told_so(tokens: Tokens) -> None:
    tokens.make("shop", ["read"], by="ada")
    connection = sqlite3.connect(tokens.path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(KeepfitError, match="expected tokens of format 1"):
        tokens.all()
    tokens.path.write_bytes(b"no database at all" * 100)
    with pytest.raises(KeepfitError, match="cannot open the tokens"):
        tokens.all()


def test_processes_that_make_tokens_at_once_lose_none(tokens: Tokens) -> None:
    code = (
        "import sys; from pathlib import Path; from keepfit.tokens import Tokens\n"
        "for i in range(10): Tokens(Path(sys.argv[1])).make(f'{sys.argv[2]}{i}', ['read'], by='x')"
    )
    command = [sys.executable, "-c", code, str(tokens.path)]
    children = [subprocess.Popen([*command, name]) for name in "abc"]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert len(tokens.known()) == 30


def test_a_process_killed_in_between_leaves_the_tokens_as_they_were(tokens: Tokens) -> None:
    tokens.make("first", ["read"], by="ada")
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA cache_size = 1'); c.execute('BEGIN IMMEDIATE')\n"
        "c.execute(\"UPDATE tokens SET revoked_at = 'now', made_by = hex(zeroblob(9000))\")\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tokens.path)], check=False)
    assert [one.name for one in tokens.all() if one.revoked_at is None] == ["first"]
    tokens.make("second", ["read"], by="ada")
    assert len(tokens.known()) == 2


@given(secret=st.text(max_size=80))
def test_no_text_that_was_not_made_here_is_a_token(secret: str) -> None:
    assert Known().find(secret) is None


# The command ------------------------------------------------------------------------------


def test_the_secret_is_shown_once_on_stdout_alone(tmp_path: Path) -> None:
    made = keepfit(tmp_path, "token", "make", "shop", "--role", "predict", "--role", "label")
    secret = made.out.strip()
    assert made.status == 0
    assert secret.startswith(PREFIX)
    assert secret not in made.err
    tokens = Tokens(tokens_of(tmp_path / ".keepfit"))
    assert tokens.known().find(secret) is not None
    listed = keepfit(tmp_path, "token", "list")
    assert "shop  predict, label  made " in listed.out
    assert secret not in listed.out
    assert keepfit(tmp_path, "token", "revoke", "shop").status == 0
    assert "; revoked " in keepfit(tmp_path, "token", "list").out


def test_the_verbs_speak_json_and_say_what_went_wrong(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    words = ("make", "ops", "--role", "operate", "--pipeline", "churn", "--home", home, "--json")
    told = keepfit(tmp_path, "token", *words).told
    assert (told["name"], told["roles"], told["pipelines"]) == ("ops", ["operate"], ["churn"])
    (listed,) = keepfit(tmp_path, "token", "list", "--home", home, "--json").told
    assert (listed["name"], listed["revoked_at"]) == ("ops", None)
    assert keepfit(tmp_path, "token", *words).status == 2
    assert keepfit(tmp_path, "token", "make", "x", "--role", "all").status == 2
    assert keepfit(tmp_path, "token", "make", "x").status == 2
    assert keepfit(tmp_path, "token", "revoke", "nobody", "--home", home).status == 2
    gone = keepfit(tmp_path, "token", "revoke", "ops", "--home", home, "--json").told
    assert gone["revoked_by"]


def test_looking_makes_no_file(tmp_path: Path) -> None:
    assert keepfit(tmp_path, "token", "list").status == 0
    assert not (tmp_path / ".keepfit").exists()
