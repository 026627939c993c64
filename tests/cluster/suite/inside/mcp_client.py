"""Runs in a pod: a session of the SDK's own client in which the server dies, and the one after it.
Prints what happened as one line of JSON."""

import asyncio
import json
import sys
import time
from datetime import timedelta

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

CALL_S = 8
TRIES_MAX = 60
url = sys.argv[1]


def number(result):
    return int(result.content[0].text)


async def session(use):
    async with streamablehttp_client(url) as (reading, writing, _):
        async with ClientSession(reading, writing,
                                 read_timeout_seconds=timedelta(seconds=CALL_S)) as client:
            await client.initialize()
            return await use(client)


async def call(client):
    return number(await client.call_tool("count_words", {"text": "one two three"}))


async def die(client):
    """Whatever the SDK makes of a server that is gone: an error, soon."""
    seen = {"words": await call(client), "tools": [t.name for t in (await client.list_tools()).tools],
            "fault_at": time.time()}
    try:
        result = await client.call_tool("die", {})
        seen["outcome"] = "is_error" if result.isError else "no error"
    except Exception as error:  # noqa: BLE001: any is an answer
        seen["outcome"] = repr(error)
    seen["told_s"] = time.time() - seen["fault_at"]
    print(json.dumps(seen), flush=True)
    return seen


async def main():
    try:
        await session(die)
    except Exception as error:  # noqa: BLE001: the session of a dead server
        print(json.dumps({"session_ended": repr(error)}), flush=True)
    for attempt in range(TRIES_MAX):
        try:
            words = await session(call)
            print(json.dumps({"again": words, "tries": attempt + 1, "at": time.time()}), flush=True)
            return
        except Exception as error:  # noqa: BLE001
            print(json.dumps({"try": repr(error)}), flush=True)
            await asyncio.sleep(0.2)


asyncio.run(main())
