"""The habits of CONTRIBUTING.md that a program can check. Each rule takes the tree and yields
violations; it knows nothing of exceptions, which tidiness.py takes from allowed.txt."""

import ast
import dataclasses
import os
import re
import shutil
import subprocess

import cpp_text

LINES_PER_FILE_MAX = 500
LINES_PER_FUNCTION_MAX = 70
CODE = (".cc", ".h", ".py")
CPP = (".cc", ".h")
# The marks of unfinished work, in pieces so that this file passes its own rule.
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" "DO", "FIX" "ME", "X" "XX", "HA" "CK")) + r")\b")
CLOCK = re.compile(r"\b(?:steady|system|high_resolution|utc)_clock::now\b"
                   r"|\b(?:clock_gettime|gettimeofday)\s*\(|(?<![\w:.>])time\s*\(\s*(?:nullptr|0)")
CLOCK_HOME = "sidecar/base/clock.h"
NEW_OR_DELETE = re.compile(r"(?<!operator )\bnew\b(?!\s*\()|\bdelete\b")
# A private constructor leaves no other way: std::unique_ptr<A>(new A(…)), or an alias ending in Ptr.
OWNED_AT_ONCE = re.compile(r"(?:\bunique_ptr<[^;{}()]*>|\w+Ptr)\s*\w*\s*\(\s*$")
DIRECTIVE = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
DELETED_MEMBER = re.compile(r"=\s*delete\b")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
LINK = re.compile(r"\[[^\]\n]*\]\(([^()\s]+)\)")

# Who may include whom. A folder may always include itself. Folders that are not named here are
# composition roots and tests: they may include everything.
MAY_INCLUDE = {
    "sidecar/base": (),
    "sidecar/net": ("sidecar/base",),
    "sidecar/http": ("sidecar/base", "sidecar/net"),
    "sidecar/serve": ("sidecar/base", "sidecar/net", "sidecar/http"),
    "sidecar/proxy": ("sidecar/base", "sidecar/net", "sidecar/http", "filters/filter.h"),
    "sidecar/health": ("sidecar/base", "sidecar/net", "sidecar/http"),
    "sidecar/heal": ("sidecar/base", "sidecar/net", "sidecar/health"),
    "sidecar/admin": ("sidecar/base", "sidecar/net", "sidecar/http", "sidecar/serve"),
    "sidecar/intercept": ("sidecar/base", "sidecar/net"),
    "filters": ("filters/filter.h", "sidecar/base"),
    # The one door between filters and the data path.
    "filters/filter.h": ("sidecar/base", "sidecar/http"),
    "checkpoint": ("sidecar/base",),
    "config": ("sidecar/base", "sidecar/net/address_ranges.h", "sidecar/net/socket_address.h"),
    "k8s/inject": ("sidecar/base", "config"),
    "k8s/api": ("sidecar/base", "sidecar/net", "sidecar/http", "config/read_file.h"),
    "k8s/webhook": ("sidecar/base", "sidecar/net", "sidecar/serve", "sidecar/admin/metrics.h",
                    "config", "k8s/api", "k8s/inject", "k8s/resources", "k8s/watch"),
    "benchmarks": ("sidecar/base", "checkpoint"),
}
# Nothing that ships may include these.
NEVER_SHIPPED = ("tests/", "benchmarks/")
SHIPPED = ("sidecar/", "filters/", "checkpoint/", "config/", "k8s/")


@dataclasses.dataclass(frozen=True)
class Violation:
    rule: str
    path: str
    line: int
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.message} [{self.rule}]"


class Tree:
    """The files under a root: tracked and new ones, none that git ignores."""

    def __init__(self, root, paths=None):
        self.root = root
        self.paths = sorted(paths if paths is not None else self._list())
        self._texts = {}

    def _list(self):
        done = subprocess.run(["git", "-C", self.root, "ls-files", "--cached", "--others",
                               "--exclude-standard"], capture_output=True, text=True, check=True)
        return [path for path in done.stdout.splitlines()
                if os.path.isfile(os.path.join(self.root, path))]

    def ending(self, *ends):
        return [path for path in self.paths if path.endswith(ends)]

    def text(self, path):
        """Empty for a file that is no UTF-8 text (fuzzing inputs)."""
        if path not in self._texts:
            with open(os.path.join(self.root, path), "rb") as source:
                content = source.read()
            try:
                self._texts[path] = content.decode("utf-8")
            except UnicodeDecodeError:
                self._texts[path] = ""
        return self._texts[path]

    def exists(self, path):
        return os.path.exists(os.path.join(self.root, path))


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def matches(tree, rule, paths, pattern, message):
    for path in paths:
        code = cpp_text.without_comments_and_literals(tree.text(path))
        for found in pattern.finditer(code):
            yield Violation(rule, path, line_of(code, found.start()),
                            f"{message}: {found.group(0).strip()}")


def file_length(tree):
    for path in tree.ending(*CODE) + [p for p in tree.paths if p == "dev"]:
        lines = tree.text(path).count("\n")
        if lines > LINES_PER_FILE_MAX:
            yield Violation("file_length", path, 1,
                            f"{lines} lines; at most {LINES_PER_FILE_MAX}")


def function_length(tree):
    for path in tree.ending(*CPP):
        for function in cpp_text.functions(tree.text(path)):
            if function.length > LINES_PER_FUNCTION_MAX:
                yield _too_long(path, function.line, function.length, function.head)
    for path in tree.ending(".py"):
        for node in ast.walk(ast.parse(tree.text(path))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = node.end_lineno - node.lineno + 1
                if length > LINES_PER_FUNCTION_MAX:
                    yield _too_long(path, node.lineno, length, node.name)


def _too_long(path, line, length, name):
    return Violation("function_length", path, line,
                     f"{length} lines; at most {LINES_PER_FUNCTION_MAX}: {name[:80]}")


def clock(tree):
    paths = [path for path in tree.ending(*CPP) if path != CLOCK_HOME]
    yield from matches(tree, "clock", paths, CLOCK, "time comes from a Clock only")


def new_delete(tree):
    for path in tree.ending(*CPP):
        code = cpp_text.without_comments_and_literals(tree.text(path))
        code = DIRECTIVE.sub(lambda found: " " * len(found.group(0)), code)  # #include <new>
        code = DELETED_MEMBER.sub(lambda found: " " * len(found.group(0)), code)
        for found in NEW_OR_DELETE.finditer(code):
            if OWNED_AT_ONCE.search(code, max(0, found.start() - 200), found.start()):
                continue
            yield Violation("new_delete", path, line_of(code, found.start()),
                            f"a unique_ptr owns; no {found.group(0)}")


def unfinished(tree):
    for path in tree.paths:
        for found in UNFINISHED.finditer(tree.text(path)):
            yield Violation("unfinished", path, line_of(tree.text(path), found.start()),
                            f"finish it or file an issue: {found.group(0)}")


def filter_readme(tree):
    folders = {path.split("/")[1] for path in tree.paths
               if path.startswith("filters/") and path.count("/") > 1}
    for folder in sorted(folders):
        readme = f"filters/{folder}/README.md"
        if readme not in tree.paths or not tree.text(readme).strip():
            yield Violation("filter_readme", f"filters/{folder}", 1,
                            "a filter needs a README.md that says what it does")


def slug(heading):
    """How a heading is linked to: lower case, no punctuation, dashes for spaces."""
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"`", "", heading.strip().lower()))
    return plain.replace(" ", "-")


def anchors(text):
    return {slug(line.lstrip("#")) for line in text.splitlines() if line.startswith("#")}


def links(tree):
    for path in tree.ending(".md"):
        text = re.sub(r"^```.*?^```", lambda block: "\n" * block.group(0).count("\n"),
                      tree.text(path), flags=re.MULTILINE | re.DOTALL)
        for found in LINK.finditer(text):
            problem = _broken(tree, path, found.group(1))
            if problem:
                yield Violation("links", path, line_of(text, found.start()), problem)


def _broken(tree, path, target):
    if re.match(r"[a-z]+:", target):
        return None
    file_part, _, anchor = target.partition("#")
    goal = path
    if file_part:
        goal = os.path.normpath(os.path.join(os.path.dirname(path), file_part))
        if not tree.exists(goal):
            return f"nothing at {target}"
    if anchor and goal.endswith(".md") and anchor not in anchors(tree.text(goal)):
        return f"{goal} has no heading #{anchor}"
    return None


def folder_of(path):
    """The longest entry of MAY_INCLUDE that is or holds this path, or None."""
    holders = [each for each in MAY_INCLUDE if path == each or path.startswith(each + "/")]
    return max(holders, key=len, default=None)


def include_direction(tree):
    for path in tree.ending(*CPP):
        # Comments only: an include's path is a string literal.
        text = re.sub(r"//[^\n]*", "", tree.text(path))
        for found in INCLUDE.finditer(text):
            problem = _wrong_include(path, found.group(1))
            if problem:
                yield Violation("include_direction", path, line_of(text, found.start()), problem)


def _wrong_include(path, target):
    if path.startswith(SHIPPED) and target.startswith(NEVER_SHIPPED):
        return f"{target} does not ship"
    folder = folder_of(path)
    if folder is None or "/" not in target:
        return None
    # One filter does not know another: inside filters/, a folder of its own is the unit.
    own = os.path.dirname(path) + "/" if folder == "filters" else folder + "/"
    if target.startswith(own):
        return None
    for allowed in MAY_INCLUDE[folder]:
        if target == allowed or target.startswith(allowed + "/"):
            return None
    return f"{folder} must not know {target}"


def purpose_comment(tree):
    for path in tree.ending(*CPP):
        if not path.startswith(SHIPPED + ("benchmarks/",)) or _starts_with_comment(tree, path):
            continue
        header = path.removesuffix(".cc") + ".h"
        if path.endswith(".h") or header not in tree.paths:
            yield Violation("purpose_comment", path, 1,
                            "the first line says in a comment what this file is for")


def _starts_with_comment(tree, path):
    return tree.text(path).startswith("//")


def layout(tree):
    program = shutil.which("clang-format-19")
    if program is None:
        yield Violation("layout", ".clang-format", 1, "clang-format-19 is not installed")
        return
    files = tree.ending(*CPP)
    if not files:
        return
    done = subprocess.run([program, "--dry-run", "--Werror", *files], cwd=tree.root,
                          capture_output=True, text=True, check=False)
    named = re.findall(r"^(\S+?):(\d+):\d+: error", done.stderr, re.MULTILINE)
    for path in sorted({path for path, _ in named}):
        line = min(int(number) for name, number in named if name == path)
        yield Violation("layout", path, line, "not laid out; run ./dev format")
    if done.returncode != 0 and not named:
        yield Violation("layout", ".clang-format", 1, done.stderr.strip()[:300])


def shell(tree):
    scripts = [path for path in tree.paths
               if path.endswith(".sh") or re.match(r"#!.*\b(ba)?sh\b", tree.text(path)[:60])]
    program = shutil.which("shellcheck")
    if program is None:
        yield Violation("shell", "dev", 1, "shellcheck is not installed")
        return
    if not scripts:
        return
    done = subprocess.run([program, "--format=gcc", *scripts], cwd=tree.root,
                          capture_output=True, text=True, check=False)
    for path, line, message in re.findall(r"^(\S+?):(\d+):\d+: (.*)$", done.stdout, re.MULTILINE):
        yield Violation("shell", path, int(line), message)


RULES = (file_length, function_length, clock, new_delete, unfinished, filter_readme, links,
         include_direction, purpose_comment, layout, shell)
