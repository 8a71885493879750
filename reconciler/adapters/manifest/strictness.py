"""What libyaml takes although YAML 1.2 does not: other readers of the same file refuse it.

* a comment without white space before its ``#`` (6.6 of the specification);
* a line of a flow collection or of a text in quotes that is indented no deeper than what it belongs to, or with a tab
  (6.3). A line that only closes what was opened may stand at the column of its key: so people write it, and no reader
  minds;
* a directive behind the content of a document that no ``...`` ended (9.2).

This is a second look, at tokens, at files that may hold one of these; most do not and are not looked at twice.
"""

import re
from typing import Any

import yaml

from reconciler.adapters.manifest.findings import Findings
from reconciler.adapters.manifest.syntax import TAB

_SUSPECT = re.compile(r"[^\s#]#|^%", re.MULTILINE)
_BLOCK_HEADER = re.compile(r"[|>][-+0-9]*")
_LINE_END = re.compile(r"\r\n|\r|\n")
_WHITE = " \t\r\n"
_BLOCK_STARTS = (yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken)
_FLOW_STARTS = (yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken)
_FLOW_ENDS = (yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
_BEFORE_DIRECTIVE = (yaml.StreamStartToken, yaml.DocumentEndToken, yaml.DirectiveToken)

Place = tuple[int, int]  # line and column, from 1


def is_suspect(text: str) -> bool:
    """Whether a second look is worth it for its comments or directives. What spans lines the first look has seen."""
    return _SUSPECT.search(text) is not None


def check(loader: Any, text: str, label: str, findings: Findings, end: Place | None) -> None:
    """Note every place that YAML 1.2 does not allow.

    Args:
        loader: the class of PyYAML's that the first look took.
        text: the whole file.
        label: its name in messages.
        findings: where problems go.
        end: where the syntax broke; what comes behind is not judged. None where it did not.
    """
    look, tokens = _Look(text, label, findings, end), loader(text)
    try:
        while (token := tokens.get_token()) is not None and look.take(token):
            pass
    except yaml.YAMLError:  # told by the first look
        pass
    finally:
        tokens.dispose()


class _Look:
    def __init__(self, text: str, label: str, findings: Findings, end: Place | None) -> None:
        self._text = text
        self._lines = _LINE_END.split(text)
        self._label = label
        self._findings = findings
        self._end = end
        self._indents = [-1]  # columns of the block collections that are open
        self._flows = 0  # flow collections that are open
        self._is_told = False  # of the outermost of them
        self._before: Any = None  # the last token

    def take(self, token: Any) -> bool:
        """One token and what stands before it; whether to go on."""
        start = token.start_mark
        if self._end is not None and (start.line + 1, start.column + 1) >= self._end:
            return False
        kind = type(token)
        if self._before is not None:
            self._gap(self._before.end_mark, start, is_end=kind in _FLOW_ENDS)
        if kind is yaml.ScalarToken:
            self._scalar(token)
        elif kind is yaml.DirectiveToken and not isinstance(self._before, _BEFORE_DIRECTIVE):
            expected = "a line with ... before it"
            self._note(start.line, start.column, "a directive behind the content of a document", expected)
        self._nest(kind, start.column)
        self._before = token
        return not self._findings.is_full

    def _gap(self, last: Any, start: Any, *, is_end: bool) -> None:
        """White space and comments between two tokens: a comment right behind the first, a new line of a collection."""
        if last.index < start.index:
            self._comment(last, last.index)
        if self._flows and start.line > last.line and not is_end:
            self._indentation(start.line)

    def _nest(self, kind: type, column: int) -> None:
        if kind in _BLOCK_STARTS:
            self._indents.append(column)
        elif kind is yaml.BlockEndToken:
            self._indents.pop()
        elif kind in _FLOW_STARTS:
            self._is_told = self._is_told and self._flows > 0
            self._flows += 1
        elif kind in _FLOW_ENDS:
            self._flows -= 1

    def _comment(self, mark: Any, offset: int) -> None:
        """``offset`` lies on the line of ``mark``."""
        if self._text[offset] == "#" and offset and self._text[offset - 1] not in _WHITE:
            column = mark.column + offset - mark.index
            self._note(
                mark.line, column, "a # right behind a value", "a space before a comment, or quotes around a text"
            )

    def _scalar(self, token: Any) -> None:
        mark = token.start_mark
        if token.style in ("|", ">"):
            header = _BLOCK_HEADER.match(self._text, mark.index)
            if header is not None:
                self._comment(mark, header.end())
        elif token.style or self._flows:
            self._is_told = self._is_told and self._flows > 0
            end = token.end_mark
            is_closed = self._lines[end.line][: end.column].strip(_WHITE) == token.style  # by a quote alone
            for line in range(mark.line + 1, end.line + (not is_closed)):
                self._indentation(line)

    def _indentation(self, line: int) -> None:
        """Of a line that is part of a flow collection or of a text in quotes; told once of each."""
        row = self._lines[line]
        content = row.lstrip(" \t")
        spaces = len(row) - len(row.lstrip(" "))
        if self._is_told or spaces > self._indents[-1] or not content:
            return
        self._is_told = True
        if row[spaces] == "\t":
            self._note(line, spaces, *TAB)
        else:
            found = "a line inside brackets or quotes that is not indented"
            self._note(line, spaces, found, "more spaces than before the key that it belongs to")

    def _note(self, line: int, column: int, found: str, expected: str, hint: str = "") -> None:
        self._findings.add((self._label, line + 1, column + 1), found, expected, hint=hint)
