#!/usr/bin/env python3
"""What clang_tidy.py takes for a change."""

import pathlib
import tempfile
import unittest

import clang_tidy


class Digest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.write(".clang-tidy", "Checks: '*'")
        self.write("a/main.cc", '#include "a/one.h"\n#include <vector>\n#include "b/x.pb.h"\n')
        self.write("a/one.h", '#include "a/two.h"\n')
        self.write("a/two.h", '#include "a/one.h"\n')
        self.write("b/x.proto", "message X {}\n")
        self.write("a/other.h", "")

    def write(self, path, text):
        (self.root / path).parent.mkdir(exist_ok=True)
        (self.root / path).write_text(text)

    def digest(self, command="g++ -c a/main.cc", tool="19.1"):
        return clang_tidy.digest("a/main.cc", command, tool, self.root)

    def test_closure_has_headers_of_headers_and_schemas(self):
        self.assertEqual(clang_tidy.closure("a/main.cc", self.root),
                         ["a/main.cc", "a/one.h", "a/two.h", "b/x.proto"])

    def test_each_thing_that_matters_changes_it(self):
        before = self.digest()
        self.assertEqual(before, self.digest())
        self.assertNotEqual(before, self.digest(command="g++ -O2 -c a/main.cc"))
        self.assertNotEqual(before, self.digest(tool="20.1"))
        self.write("a/.clang-tidy", "InheritParentConfig: true")
        self.assertNotEqual(before, self.digest())
        before = self.digest()
        for path in ("a/main.cc", "a/two.h", "b/x.proto", ".clang-tidy", "a/.clang-tidy"):
            self.write(path, (self.root / path).read_text() + "// more\n")
            after = self.digest()
            self.assertNotEqual(before, after, path)
            before = after

    def test_what_is_not_included_and_where_the_checkout_is_do_not(self):
        before = self.digest(command=f"g++ -I{self.root} -c a/main.cc")
        self.write("a/other.h", "int x;")
        self.assertEqual(before, self.digest(command="g++ -I -c a/main.cc"))


if __name__ == "__main__":
    unittest.main()
