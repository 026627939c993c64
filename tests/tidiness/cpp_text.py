"""A reading of C++ that is just good enough for the rules: comments and literals blanked out, and
where functions begin and end. It need not understand the language, only our layout of it."""

import dataclasses
import re

_TOKEN = re.compile(
    r"""//[^\n]*
      | /\*.*?\*/
      | R"(?P<tag>[^()\\\s]{0,16})\(.*?\)(?P=tag)"
      | "(?:\\.|[^"\\\n])*"
      | (?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])+'
    """,
    re.VERBOSE | re.DOTALL)
_NOT_A_FUNCTION = re.compile(r"^\s*(namespace|class|struct|union|enum|extern\s*\"|concept)\b")


def without_comments_and_literals(text):
    """The same text, line for line, with comments and the insides of literals as blanks."""
    return _TOKEN.sub(lambda found: re.sub(r"[^\n]", " ", found.group(0)), text)


@dataclasses.dataclass
class Function:
    line: int
    length: int
    head: str


@dataclasses.dataclass
class _Scope:
    is_function: bool
    head: str
    line: int


def functions(text):
    """Every function defined at namespace or class level; lambdas count for their function."""
    return _Reader(without_comments_and_literals(text)).read()


class _Reader:
    def __init__(self, code):
        self.code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m[0]),
                           code, flags=re.MULTILINE)
        self.found = []
        self.scopes = []
        self.head = ""
        self.head_line = 0
        self.parentheses = 0
        self.line = 1

    def read(self):
        for position, char in enumerate(self.code):
            if char == "\n":
                self.line += 1
            self._step(char, position)
        return self.found

    def _step(self, char, position):
        self.parentheses += (char == "(") - (char == ")")
        if char == "{":
            self._open()
        elif char == "}":
            self._close(position)
        elif char == ";" and self.parentheses == 0:
            self.head = ""
        else:
            if not self.head.strip():
                self.head_line = self.line
            self.head += char

    def _open(self):
        inside = any(scope.is_function for scope in self.scopes)
        is_function = (not inside and "(" in self.head and not _NOT_A_FUNCTION.match(self.head)
                       and not self.head.rstrip().endswith("="))
        self.scopes.append(_Scope(is_function, self.head, self.head_line))
        self.head = ""

    def _close(self, position):
        if not self.scopes:
            return
        scope = self.scopes.pop()
        self.head = ""
        if not scope.is_function:
            return
        following = self.code[position + 1:position + 200].lstrip()[:1]
        if following in (",", "{"):
            # It was a member's initializer in braces: the function itself is still to come.
            self.head, self.head_line = scope.head, scope.line
            return
        head = " ".join(scope.head.split())
        self.found.append(Function(scope.line, self.line - scope.line + 1, head))
