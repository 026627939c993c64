"""The demo's agent: a LangGraph conversation with a tool, kept by the SQLite checkpointer.

State: everything lives in checkpoints under $REMORA_STATE_DIR, written before each step's effect
shows (durability "sync", WAL). A turn is one pass through the graph

    open_turn -> ask_model -> use_tool -> ask_model -> close_turn

and a process that dies between two steps leaves the turn unfinished in the checkpoint. The next
request on that conversation finishes it first, from the step that was interrupted.

Idempotency: a request's Idempotency-Key goes into the checkpoint with the turn, and its reply with
the turn's last step. The same key again gets the same reply, whether the first attempt was
finished, interrupted or never begun.

HTTP: POST /chat {"thread_id", "message"}, GET /healthz, GET /threads/ID, GET /events (SSE), and
for the demo and the tests POST /fault/{hang,deadlock,memory,exit}.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sqlite3
import threading
import uuid
from typing import Annotated, TypedDict

import faults
import openai
import uvicorn
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    RemoveMessage,
    ToolMessage,
    convert_to_openai_messages,
)
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph, add_messages
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

MODEL = "scripted-1"
MESSAGES_KEPT_MAX = 8  # two turns of four messages are what the model sees
REPLIES_KEPT_MAX = 64
CHECKPOINTS_KEPT_MAX = 6
PRUNE_EVERY_TURNS = 8
MODEL_TIMEOUT_S = 10
SUBSCRIBER_EVENTS_MAX = 256
KEEP_ALIVE_S = 300
SHUTDOWN_S = 2

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "count_words",
            "description": "Counts the words of a text.",
            "parameters": {
                "type": "object",
                "properties": {"text": {"type": "string"}},
                "required": ["text"],
            },
        },
    }
]


def keep_newest(kept: dict, added: dict) -> dict:
    """Reducer: replies by key, the newest REPLIES_KEPT_MAX."""
    merged = {**kept, **added}
    return dict(list(merged.items())[-REPLIES_KEPT_MAX:])


class Conversation(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    turn: int
    key: str
    replies: Annotated[dict, keep_newest]


def build_graph(client: openai.OpenAI, saver: SqliteSaver):
    def open_turn(state: Conversation) -> Conversation:
        return {"turn": state.get("turn", 0) + 1}

    def ask_model(state: Conversation) -> Conversation:
        messages = convert_to_openai_messages(state["messages"])
        after_tool = isinstance(state["messages"][-1], ToolMessage)
        text, calls = stream_answer(client, messages) if after_tool else plan(client, messages)
        return {"messages": [AIMessage(content=text, tool_calls=calls)]}

    def use_tool(state: Conversation) -> Conversation:
        results = []
        for call in state["messages"][-1].tool_calls:
            words = len(call["args"]["text"].split())
            text = f"{words} words in turn {state['turn']}"
            results.append(ToolMessage(content=text, tool_call_id=call["id"]))
        return {"messages": results}

    def close_turn(state: Conversation) -> Conversation:
        reply = {"turn": state["turn"], "reply": state["messages"][-1].content}
        old = state["messages"][:-MESSAGES_KEPT_MAX]
        return {
            "replies": {state["key"]: reply},
            "messages": [RemoveMessage(id=message.id) for message in old],
        }

    def tool_wanted(state: Conversation) -> str:
        return "use_tool" if state["messages"][-1].tool_calls else "close_turn"

    graph = StateGraph(Conversation)
    for node in (open_turn, ask_model, use_tool, close_turn):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "open_turn")
    graph.add_edge("open_turn", "ask_model")
    graph.add_conditional_edges("ask_model", tool_wanted, ["use_tool", "close_turn"])
    graph.add_edge("use_tool", "ask_model")
    graph.add_edge("close_turn", END)
    return graph.compile(checkpointer=saver)


def plan(client: openai.OpenAI, messages: list):
    """One plain completion: text and the tool calls that the model asks for."""
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    message = answer.choices[0].message
    calls = [
        {"name": c.function.name, "args": json.loads(c.function.arguments), "id": c.id}
        for c in message.tool_calls or []
    ]
    return message.content or "", calls


def stream_answer(client: openai.OpenAI, messages: list):
    """One streamed completion: the text, put together from its pieces."""
    pieces = []
    with client.chat.completions.create(
        model=MODEL, messages=messages, tools=TOOLS, stream=True
    ) as stream:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                pieces.append(chunk.choices[0].delta.content)
    return "".join(pieces), []


def is_unfinished(state) -> bool:
    """Whether a turn was begun and not closed.

    `next` alone does not say so: a process that died after a step's writes were kept, and before the
    checkpoint that follows them, leaves none.
    """
    key = state.values.get("key")
    return bool(state.next) or (key is not None and key not in state.values.get("replies", {}))


class Agent:
    """Runs turns. Thread-safe: turns of one conversation come one after the other."""

    def __init__(self, state_dir: str, model_url: str):
        os.makedirs(state_dir, exist_ok=True)
        path = os.path.join(state_dir, "conversations.sqlite")
        self._saver = SqliteSaver(sqlite3.connect(path, check_same_thread=False))
        self._saver.setup()  # also turns WAL on
        client = openai.OpenAI(base_url=model_url, api_key="unused", timeout=MODEL_TIMEOUT_S)
        self._graph = build_graph(client, self._saver)
        self._locks: dict[str, threading.Lock] = {}
        self._locks_guard = threading.Lock()

    def chat(self, thread_id: str, message: str, key: str) -> dict:
        """One turn. The same key gets the same reply and has one effect."""
        config = {"configurable": {"thread_id": thread_id}}
        with self._lock_of(thread_id):
            state = self._graph.get_state(config)
            if is_unfinished(state):  # by an earlier process
                self._graph.invoke(None, config, durability="sync")
                state = self._graph.get_state(config)
            known = state.values.get("replies", {}).get(key)
            if known:
                return {"thread_id": thread_id, "replayed": True} | known
            first = {"messages": [HumanMessage(content=message)], "key": key}
            done = self._graph.invoke(first, config, durability="sync")
            if done["turn"] % PRUNE_EVERY_TURNS == 0:
                self._prune(thread_id)
            return {"thread_id": thread_id, "replayed": False} | done["replies"][key]

    def history(self, thread_id: str) -> dict:
        config = {"configurable": {"thread_id": thread_id}}
        values = self._graph.get_state(config).values
        return {
            "thread_id": thread_id,
            "turns": values.get("turn", 0),
            "messages": len(values.get("messages", [])),
        }

    def _lock_of(self, thread_id: str) -> threading.Lock:
        with self._locks_guard:
            return self._locks.setdefault(thread_id, threading.Lock())

    def _prune(self, thread_id: str) -> None:
        """Drops all but the newest checkpoints: only the last is ever resumed."""
        newest = (
            "SELECT checkpoint_id FROM checkpoints WHERE thread_id = ? "
            "ORDER BY checkpoint_id DESC LIMIT ?"
        )
        with self._saver.cursor() as cursor:
            for table in ("writes", "checkpoints"):
                cursor.execute(
                    f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_id NOT IN ({newest})",
                    (thread_id, thread_id, CHECKPOINTS_KEPT_MAX),
                )


class Subscribers:
    """Those who listen to /events. On the event loop only; a slow one loses events, not memory."""

    def __init__(self):
        self._queues: set[asyncio.Queue] = set()

    def publish(self, event: dict) -> None:
        for queue in self._queues:
            if not queue.full():
                queue.put_nowait(event)

    async def stream(self):
        queue = asyncio.Queue(SUBSCRIBER_EVENTS_MAX)
        self._queues.add(queue)
        try:
            yield b": here\n\n"
            while True:
                yield f"event: turn\ndata: {json.dumps(await queue.get())}\n\n".encode()
        finally:
            self._queues.discard(queue)


def build_app(agent: Agent) -> Starlette:
    subscribers = Subscribers()

    async def chat(request: Request):
        try:
            body = await request.json()
            thread_id, message = str(body["thread_id"]), str(body["message"])
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": "wanted: thread_id and message"}, status_code=400)
        key = request.headers.get("idempotency-key") or uuid.uuid4().hex
        reply = await run_in_threadpool(agent.chat, thread_id, message, key)
        subscribers.publish({"thread_id": thread_id, "turn": reply["turn"]})
        return JSONResponse(reply | {"pid": os.getpid()})

    async def healthz(_: Request):
        return JSONResponse({"status": "ok", "agent": "langgraph", "pid": os.getpid()})

    async def thread(request: Request):
        return JSONResponse(await run_in_threadpool(agent.history, request.path_params["id"]))

    async def events(_: Request):
        return StreamingResponse(subscribers.stream(), media_type="text/event-stream")

    async def fault(request: Request):
        kind = request.path_params["kind"]
        if kind == "hang":
            faults.hang()  # not awaited: the event loop stands still, as in many a tool
        elif kind == "deadlock":
            await run_in_threadpool(faults.MutexDeadlock().wait_for_ever)
        elif kind == "memory":
            await run_in_threadpool(faults.exhaust_memory)
        elif kind == "exit":
            faults.leave()
        return JSONResponse({"error": f"no fault named {kind}"}, status_code=404)

    return Starlette(
        routes=[
            Route("/chat", chat, methods=["POST"]),
            Route("/healthz", healthz),
            Route("/threads/{id}", thread),
            Route("/events", events),
            Route("/fault/{kind}", fault, methods=["POST"]),
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 in a container of its own")
    parser.add_argument("--model-url", required=True, help="for example http://127.0.0.1:9000/v1")
    arguments = parser.parse_args()
    agent = Agent(os.environ["REMORA_STATE_DIR"], arguments.model_url)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(
            build_app(agent),
            host=arguments.host,
            port=arguments.port,
            log_level="warning",
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )


if __name__ == "__main__":
    main()
