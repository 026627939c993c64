#!/usr/bin/env python3
"""Remora as a responder of Kubernetes' Eviction API, on an API server that has it. The ways in are ./dev evictions
and ./dev test.

  test     runs the suite; builds the API server first, once (some minutes)
  cached   0 when everything is there; else what is missing, and 1
"""

import os
import subprocess
import sys

import api_server
import layout
import steps

if __name__ == "__main__":
    where = layout.from_environment()
    if sys.argv[1:] == ["cached"]:
        lacks = api_server.missing(where)
        print("\n".join(lacks))
        sys.exit(1 if lacks else 0)
    if sys.argv[1:2] != ["test"]:
        sys.exit(__doc__)
    try:
        clock = steps.Stopwatch()
        api_server.programs.ready(where, clock)
        api_server.ready(where, clock)
    except steps.Failure as failure:
        sys.exit(f"evictions: {failure}")
    sys.exit(subprocess.run([
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(api_server.HERE),
        *sys.argv[2:]], check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}).returncode)
