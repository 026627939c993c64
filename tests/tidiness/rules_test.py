"""Each rule must find a planted fault and stay silent on the honest neighbour of it."""

import os
import tempfile
import unittest

import cpp_text
import rules
import tidiness


class RulesTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="remora-tidiness-")
        self.addCleanup(self.directory.cleanup)

    def found(self, rule, files):
        """Paths and lines at which the rule finds a fault in a tree of these files."""
        for path, text in files.items():
            full = os.path.join(self.directory.name, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as target:
                target.write(text)
        tree = rules.Tree(self.directory.name, list(files))
        return [(violation.path, violation.line) for violation in rule(tree)]

    def test_file_length(self):
        files = {"a/long.cc": "// x\n" * 501, "a/short.cc": "// x\n" * 500}
        self.assertEqual(self.found(rules.file_length, files), [("a/long.cc", 1)])

    def test_function_length(self):
        body = "  call();\n" * 69
        files = {
            "a/long.cc": "namespace x {\n\nint f(int a) {\n" + body + "}\n}\n",
            "a/short.cc": "int f(int a) {\n" + body[10:] + "}\n",
            "a/initialised.cc": "A::A(int x)\n    : a_{x}, b_{2} {\n" + body + "}\n",
            "a/class.h": "class A {\n" + "  int f() { return 1; }\n" * 100 + "};\n",
            "a/long.py": "def f():\n" + "    call()\n" * 70,
        }
        self.assertEqual(sorted(self.found(rules.function_length, files)),
                         [("a/initialised.cc", 1), ("a/long.cc", 3), ("a/long.py", 1)])

    def test_clock(self):
        files = {
            "a/bad.cc": "auto t =\n    std::chrono::steady_clock::now();\n",
            "a/c.cc": "auto t = time(nullptr);\n",
            "a/good.cc": "// steady_clock::now()\nauto t = clock.now(); auto u = wall_time(nullptr);",
            "sidecar/base/clock.h": "std::chrono::steady_clock::now();\n",
        }
        self.assertEqual(self.found(rules.clock, files), [("a/bad.cc", 2), ("a/c.cc", 1)])

    def test_new_delete(self):
        files = {
            "a/bad.cc": "auto* a = new A;\ndelete a;\n",
            "a/owned.cc": "return std::unique_ptr<A>(new A(b));\nstd::unique_ptr<A> a(\n    new A);\n",
            "a/good.cc": "A(const A&) = delete;  // new A\nauto s = \"new\"; int renewed = 1;\n",
        }
        self.assertEqual(self.found(rules.new_delete, files), [("a/bad.cc", 1), ("a/bad.cc", 2)])

    def test_unfinished(self):
        files = {"a/bad.md": "ok\n" + "TO" "DO: later\n", "a/good.md": "to do is to be\n"}
        self.assertEqual(self.found(rules.unfinished, files), [("a/bad.md", 2)])

    def test_filter_readme(self):
        files = {"filters/filter.h": "", "filters/a/a.cc": "", "filters/b/b.cc": "",
                 "filters/b/README.md": "What b does.\n"}
        self.assertEqual(self.found(rules.filter_readme, files), [("filters/a", 1)])

    def test_links(self):
        files = {
            "README.md": "# Top\n[a](docs/a.md#two-words) [b](docs/none.md)\n[c](#bottom) [d](#top)",
            "docs/a.md": "## Two words\n[up](../README.md)\n```\n[in code](none)\n```\n",
        }
        self.assertEqual(self.found(rules.links, files), [("README.md", 2), ("README.md", 3)])

    def test_include_direction(self):
        files = {
            "sidecar/net/a.cc": '#include "sidecar/base/error.h"\n#include "sidecar/http/codec.h"\n',
            "sidecar/health/a.cc": '#include "sidecar/proxy/session.h"\n',
            "filters/filter.h": '#include "sidecar/http/message.h"\n',
            "filters/a/a.cc": '#include "filters/a/a.h"\n#include "filters/b/b.h"\n',
            "sidecar/main.cc": '#include "sidecar/proxy/session.h"\n#include "tests/fakes/loop.h"\n',
            "tests/a.cc": '#include "tests/fakes/loop.h"\n#include "sidecar/proxy/session.h"\n',
        }
        self.assertEqual(sorted(self.found(rules.include_direction, files)),
                         [("filters/a/a.cc", 2), ("sidecar/health/a.cc", 1),
                          ("sidecar/main.cc", 2), ("sidecar/net/a.cc", 2)])

    def test_purpose_comment(self):
        files = {"sidecar/a.cc": "int a;\n", "sidecar/b.cc": "int b;\n",
                 "sidecar/b.h": "// What b is.\n", "sidecar/c.h": "#pragma once\n"}
        self.assertEqual(self.found(rules.purpose_comment, files),
                         [("sidecar/a.cc", 1), ("sidecar/c.h", 1)])

    def test_layout(self):
        files = {".clang-format": "BasedOnStyle: Google\n", "a.cc": "int  a ;\n", "b.cc": "int b;\n"}
        self.assertEqual(self.found(rules.layout, files), [("a.cc", 1)])

    def test_shell(self):
        files = {"bad": "#!/usr/bin/env bash\nrm $1\n", "good": '#!/usr/bin/env bash\nrm "$1"\n'}
        self.assertEqual(self.found(rules.shell, files), [("bad", 2)])

    def test_every_rule_has_a_test(self):
        for rule in rules.RULES:
            self.assertTrue(hasattr(self, f"test_{rule.__name__}"), rule.__name__)


class AllowedTest(unittest.TestCase):
    @staticmethod
    def broken(_tree):
        yield rules.Violation("broken", "a.cc", 1, "always")

    def test_an_exception_silences_only_its_own_path(self):
        self.assertEqual(tidiness.check(None, {("broken", "a.cc"): "why"}, [self.broken]), [])
        remaining = tidiness.check(None, {("broken", "b.cc"): "why"}, [self.broken])
        self.assertEqual([violation.path for violation in remaining], ["a.cc", "b.cc"])

    def test_an_exception_needs_a_reason(self):
        with self.assertRaises(ValueError):
            tidiness.read_allowed("clock a.cc\n")
        self.assertEqual(tidiness.read_allowed("# c\n\nclock a.cc it is the clock\n"),
                         {("clock", "a.cc"): "it is the clock"})


class CppTextTest(unittest.TestCase):
    def test_literals_and_comments_are_blank_and_lines_stay(self):
        code = 'a /* {\n} */ "{" R"x({)" )x" \'{\' 1\'000 // {\nb'
        blank = cpp_text.without_comments_and_literals(code)
        self.assertEqual(len(blank), len(code))
        self.assertNotIn("{", blank)
        self.assertIn("1'000", blank)
        self.assertEqual(blank.count("\n"), 2)


if __name__ == "__main__":
    unittest.main()
