"""A small edit of a pipeline's file: other arguments of one call, and nothing else."""

from __future__ import annotations

import ast
import codecs
import difflib
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from keepfit.errors import ConfigError

_LINE = re.compile(rb"\r\n|\r|\n")
_REPEATED = (
    ast.For,
    ast.While,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)
_QUIET = {tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT}


@dataclass(frozen=True, slots=True)
class Edit:
    """Bytes that come in the place of others."""

    start: int
    end: int
    text: bytes


def difference(before: bytes, after: bytes, name: str) -> str:
    r"""Return what differs between two versions of a file, as a unified diff.

    Examples
    --------
    >>> print(difference(b"a = 1\n", b"a = 2\n", "one.py").splitlines()[-1])
    +a = 2
    """
    old, new = (each.decode().splitlines(keepends=True) for each in (before, after))
    found = difflib.unified_diff(old, new, fromfile=name, tofile=name)
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in found).rstrip("\n")


def replaced(content: bytes, pipeline: str, parts: Mapping[str, str], *, file: str) -> bytes:
    """Return a file in which a pipeline has other arguments, all else as it was.

    Comments and layout stay. Of ``parts`` the trigger and the maximum age are put in the place
    of those that are there; a gate is written only where neither it nor a trigger is there.
    Names that the code needs (``triggers``, ``drift``) are imported where the file does not yet.

    Parameters
    ----------
    content
        The file.
    pipeline
        The name of the pipeline, the first argument of its call.
    parts
        Code by argument, its names as ``from keepfit import …`` binds them.
    file
        What errors call the file.

    Raises
    ------
    ConfigError
        The call is not to be found, is made in a way that hides its arguments, or the edit
        would take a comment away.
    """
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    source = _Source(content[len(mark) :], file)
    call = source.call(pipeline)
    given = {keyword.arg: keyword for keyword in call.keywords}
    if None in given:
        raise source.refusal("its call of Pipeline takes arguments from a dictionary (**)")
    wanted = {
        name: code
        for name, code in parts.items()
        if name != "gate" or not given.keys() & {name, "trigger"}
    }
    wanted = {name: source.bound(code) for name, code in wanted.items()}
    edits = [source.value(given[name], code) for name, code in wanted.items() if name in given]
    added = [f"{name}={code}" for name, code in wanted.items() if name not in given]
    edits += source.added(call, added) if added else []
    edits += source.imports()
    after = _applied(source.content, edits)
    source.check(after, pipeline, set(wanted))
    return mark + after


def _applied(content: bytes, edits: list[Edit]) -> bytes:
    for edit in sorted(edits, key=lambda one: one.start, reverse=True):
        content = content[: edit.start] + edit.text + content[edit.end :]
    return content


class _Source:
    """A file's code with the places of its parts, in bytes."""

    def __init__(self, content: bytes, file: str) -> None:
        self.content, self.file = content, file
        try:
            content.decode()
            encoding = tokenize.detect_encoding(io.BytesIO(content).readline)[0]
            self.tree = ast.parse(content)
        except (SyntaxError, UnicodeDecodeError) as problem:
            raise self.refusal(f"it is no Python in UTF-8: {problem}") from problem
        if b"\r" in content.replace(b"\r\n", b""):
            raise self.refusal("its lines end in a way of old")
        if encoding not in ("utf-8", "utf-8-sig"):
            raise self.refusal(f"it is written in {encoding}, not in UTF-8")
        self._starts = [0, *(match.end() for match in _LINE.finditer(content))]
        self._missing: list[str] = []

    def refusal(self, why: str) -> ConfigError:
        """Return the error that says why the file stays as it is."""
        return ConfigError(
            f"{self.file} is left as it is: {why}", hint="write the trigger into it by hand"
        )

    # Finding ----------------------------------------------------------------------------

    def call(self, pipeline: str) -> ast.Call:
        """Return the one call that makes a pipeline."""
        calls = [
            node for node in ast.walk(self.tree) if isinstance(node, ast.Call) and self._makes(node)
        ]
        named = [node for node in calls if _name(node) == pipeline]
        found = named or [node for node in calls if _name(node) is None]
        if len(found) != 1:
            what = f"Pipeline({pipeline!r}, …)"
            raise self.refusal(f"expected one call of {what} in it, found {len(found)}")
        if not named and any(found[0] in ast.walk(one) for one in self._repeated()):
            raise self.refusal(
                "the call of Pipeline in it may make others too, which would change as well"
            )
        return found[0]

    def _repeated(self) -> Iterator[ast.AST]:
        """Yield what may run more than once."""
        return (node for node in ast.walk(self.tree) if isinstance(node, _REPEATED))

    def _makes(self, node: ast.Call) -> bool:
        called = ast.unparse(node.func)
        return called in {self._spelt("Pipeline"), f"{self._spelt('keepfit')}.Pipeline"}

    def _spelt(self, name: str) -> str | None:
        """Return what the file calls something of keepfit's, or keepfit itself."""
        for node in self._imports():
            for alias in node.names:
                if isinstance(node, ast.ImportFrom):
                    if alias.name == name:
                        return alias.asname or name
                elif alias.name == name == "keepfit":
                    return alias.asname or name
        return None

    def _imports(self) -> Iterator[ast.Import | ast.ImportFrom]:
        for node in self.tree.body:
            if isinstance(node, ast.Import):
                yield node
            if isinstance(node, ast.ImportFrom) and (node.module, node.level) == ("keepfit", 0):
                yield node

    # Writing ----------------------------------------------------------------------------

    def bound(self, code: str) -> str:
        """Return code with its names as this file has them; those it lacks are to be imported."""
        encoded = code.encode()
        names = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name))
        for node in sorted(names, key=lambda one: one.col_offset, reverse=True):
            end = node.col_offset + len(node.id.encode())
            encoded = encoded[: node.col_offset] + self._binding(node.id).encode() + encoded[end:]
        return encoded.decode()

    def _binding(self, name: str) -> str:
        spelt = self._spelt(name)
        if spelt is not None:
            return spelt
        whole = self._spelt("keepfit")
        if whole is not None:
            return f"{whole}.{name}"
        if name in _bound_names(self.tree):
            raise self.refusal(f"the name `{name}` means another thing in it")
        if name not in self._missing:
            self._missing.append(name)
        return name

    def imports(self) -> list[Edit]:
        """Return the edit that imports what is missing, beside what is imported already."""
        if not self._missing:
            return []
        direct = [node for node in self._imports() if isinstance(node, ast.ImportFrom)]
        if not direct:
            raise self.refusal(f"it does not import {' and '.join(self._missing)} from keepfit")
        last = direct[-1].names[-1]
        end = self._place(last.end_lineno, last.end_col_offset)
        return [Edit(end, end, "".join(f", {name}" for name in self._missing).encode())]

    def value(self, keyword: ast.keyword, code: str) -> Edit:
        """Return the edit that gives an argument another value."""
        start = self._place(keyword.value.lineno, keyword.value.col_offset)
        end = self._place(keyword.value.end_lineno, keyword.value.end_col_offset)
        tokens = self._tokens(start, end)
        if any(kind == tokenize.COMMENT for kind, _, _ in tokens):
            raise self.refusal(f"a comment stands inside {keyword.arg}=")
        return Edit(start, end, code.encode())

    def added(self, call: ast.Call, arguments: list[str]) -> list[Edit]:
        """Return the edits that add arguments at the end of a call, laid out as the last one is."""
        close = self._place(call.end_lineno, call.end_col_offset) - 1
        start = self._place(call.func.end_lineno, call.func.end_col_offset)
        tokens = [one for one in self._tokens(start, close) if one[0] not in _QUIET]
        _, first, end = tokens[-1]
        comma = self.content[first:end] == b","
        opening = self._argument(call)
        line = self._starts[opening.lineno - 1]
        indent = self.content[line : self._place(opening.lineno, opening.col_offset)]
        if indent.strip():  # the last argument shares its line: so do the new ones
            text = ("" if comma else ",") + "".join(f" {one}," for one in arguments)
            return [Edit(end, end, (text if comma else text[:-1]).encode())]
        edges = [match.start() for match in _LINE.finditer(self.content) if match.start() >= end]
        newline = _LINE.search(self.content)
        assert newline is not None
        lines = b"".join(newline[0] + indent + f"{one},".encode() for one in arguments)
        if edges and edges[0] < close:  # behind the comment that ends the line
            comment = self.content[end : edges[0]]
            return [Edit(end, edges[0], (b"" if comma else b",") + comment + lines)]
        return [Edit(end, end, (b"" if comma else b",") + (lines if comma else lines[:-1]))]

    def _argument(self, call: ast.Call) -> ast.expr | ast.keyword:
        """Return the last argument of a call."""
        arguments: list[ast.expr | ast.keyword] = [*call.args, *call.keywords]
        return max(arguments, key=lambda one: (one.lineno, one.col_offset))

    def _tokens(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """Return the kinds and places of the tokens between two places."""
        found = []
        for token in tokenize.tokenize(io.BytesIO(self.content).readline):
            if token.type in (tokenize.ENCODING, tokenize.ENDMARKER):
                continue
            first, last = (self._at(place, token.line) for place in (token.start, token.end))
            if start <= first and last <= end:
                found.append((token.type, first, last))
        return found

    def _at(self, place: tuple[int, int], line: str) -> int:
        """Return the byte at which a token lies, whose column counts letters."""
        row, column = place
        return self._starts[row - 1] + len(line.splitlines()[0][:column].encode()) if line else 0

    def _place(self, row: int | None, column: int | None) -> int:
        assert row is not None
        assert column is not None
        return self._starts[row - 1] + column

    def check(self, after: bytes, pipeline: str, changed: set[str]) -> None:
        """Make sure that an edit changed the arguments that it should, and nothing else."""
        other = _Source(after, self.file)
        if _without(self, pipeline, changed) != _without(other, pipeline, changed):
            raise self.refusal("the edit would have changed more than the trigger")


def _without(source: _Source, pipeline: str, arguments: set[str]) -> str:
    """Return a file's code without some arguments of a call and without imports from keepfit."""
    call = source.call(pipeline)
    kept = [keyword for keyword in call.keywords if keyword.arg not in arguments]
    whole, call.keywords = call.keywords, kept
    imported = [
        (node, node.names)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom) and node.module == "keepfit"
    ]
    for node, _ in imported:
        node.names = []
    told = ast.dump(source.tree)
    call.keywords = whole
    for node, names in imported:
        node.names = names
    return told


def _name(call: ast.Call) -> str | None:
    """Return the name a call of Pipeline states; None when it is not written there."""
    stated = [keyword.value for keyword in call.keywords if keyword.arg == "name"]
    first = [*call.args[:1], *stated]
    if first and isinstance(first[0], ast.Constant) and isinstance(first[0].value, str):
        return first[0].value
    return None


def _bound_names(tree: ast.AST) -> set[str]:
    """Return the names that a file gives to anything."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return found
