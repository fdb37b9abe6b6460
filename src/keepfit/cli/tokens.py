"""The verb that gives and takes tokens: make, list and revoke."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keepfit import terminal
from keepfit.cli.command import Command
from keepfit.cli.finding import placed
from keepfit.cli.words import Home, Json, OfFile, verb

Roles = Annotated[
    list[str],
    typer.Option("--role", metavar="ROLE", help="predict, label, read or operate; several times."),
]
Pipelines = Annotated[
    list[str] | None,
    typer.Option("--pipeline", metavar="NAME", help="For this one alone; several times."),
]
TokenName = Annotated[str, typer.Argument(metavar="NAME", help="Whose token it is.")]

token = typer.Typer(
    help="Make, list and revoke the tokens of a server.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@token.command("make", cls=Command)
@verb
def make(
    name: TokenName,
    roles: Roles,
    pipelines: Pipelines = None,
    file: OfFile = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a token; its secret is shown once, and kept nowhere."""
    from keepfit.tokens import Tokens, tokens_of, user

    folder = _folder(file, home)
    secret = Tokens(tokens_of(folder)).make(name, roles, by=user(), pipelines=pipelines or ())
    if as_json:
        terminal.data({"name": name, "roles": roles, "pipelines": pipelines or [], "token": secret})
        return
    terminal.say(f"{name} may {', '.join(roles)}; this is shown once:", "head")
    terminal.show(secret)
    terminal.hint('send it as the header "Authorization: Bearer …"')


@token.command("list", cls=Command)
@verb
def listed(file: OfFile = None, home: Home = None, as_json: Json = False) -> None:
    """Show all tokens, those that were revoked too; never their secrets."""
    from keepfit.tokens import Token, Tokens, tokens_of

    found = Tokens(tokens_of(_folder(file, home))).all()
    if as_json:
        terminal.data([one.to_dict() for one in found])
        return

    def line(one: Token) -> str:
        where = f" at {', '.join(one.pipelines)}" if one.pipelines else ""
        gone = f"; revoked {one.revoked_at} by {one.revoked_by}" if one.revoked_at else ""
        return (
            f"{one.name}  {', '.join(one.roles)}{where}  made {one.made_at} by {one.made_by}{gone}"
        )

    terminal.show("\n".join(map(line, found)) or "no tokens: the server answers this machine alone")


@token.command("revoke", cls=Command)
@verb
def revoke(name: TokenName, file: OfFile = None, home: Home = None, as_json: Json = False) -> None:
    """End a token; servers turn it away within a second."""
    from keepfit.tokens import Tokens, tokens_of, user

    gone = Tokens(tokens_of(_folder(file, home))).revoke(name, by=user())
    if as_json:
        terminal.data(gone.to_dict())
    else:
        terminal.say(f"{name} is revoked")


def _folder(file: str | None, home: Path | None) -> Path:
    return placed(file, home, None)[0] or Path(".keepfit")
