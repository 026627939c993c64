#!/usr/bin/env python3
"""Checks the tree against the rules of rules.py. Exit codes: 0 tidy, 1 violations."""

import argparse
import os
import sys

import rules

HERE = os.path.dirname(os.path.abspath(__file__))


def read_allowed(text):
    """{(rule, path): reason} from lines "RULE PATH REASON"; a line without a reason is an error."""
    allowed = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split(maxsplit=2)
        if len(words) < 3:
            raise ValueError(f"allowed.txt:{number}: RULE PATH REASON")
        allowed[words[0], words[1]] = words[2]
    return allowed


def check(tree, allowed, chosen=rules.RULES):
    """The violations that remain, and one for each exception that nothing needs any more."""
    unused = {key for key in allowed if key[0] in {rule.__name__ for rule in chosen}}
    remaining = []
    for rule in chosen:
        for violation in rule(tree):
            key = (violation.rule, violation.path)
            if key in allowed:
                unused.discard(key)
            else:
                remaining.append(violation)
    for rule_name, path in sorted(unused):
        remaining.append(rules.Violation(rule_name, path, 1, "allowed.txt excepts it needlessly"))
    return remaining


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(HERE)))
    args = parser.parse_args()
    with open(os.path.join(HERE, "allowed.txt"), encoding="utf-8") as source:
        allowed = read_allowed(source.read())
    tree = rules.Tree(args.root)
    violations = check(tree, allowed)
    for violation in violations:
        print(violation)
    print(f"{len(tree.paths)} files, {len(rules.RULES)} rules, {len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
