"""Runs as a tool server: the Model Context Protocol's Python SDK over streamable HTTP, one tool that
counts words, one that never comes back because its process ends."""

import os
import sys

from mcp.server.fastmcp import FastMCP
from starlette.responses import JSONResponse

server = FastMCP("words", host="0.0.0.0", port=int(sys.argv[1]))


@server.tool()
def count_words(text: str) -> int:
    """Counts the words of a text."""
    return len(text.split())


@server.tool()
def die() -> int:
    """Ends the server in the middle of the call."""
    os._exit(70)


@server.custom_route("/healthz", methods=["GET"])
async def healthz(_):
    return JSONResponse({"status": "ok", "pid": os.getpid()})


server.run(transport="streamable-http")
