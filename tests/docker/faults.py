"""What holds of a fault whichever way the agent is run: said once, tried in one container and in
Compose."""

from agents import count, warm
from callers import Callers

DEADLOCK = "deadlock of two pthread mutexes"


def deadlock_is_named_and_healed(agent, note, setup):
    with Callers(agent.host, agent.port) as callers:
        warm(callers)
        agent.ask_for_fault("deadlock")
        incident = agent.closed_incident("deadlock")
    texts = " | ".join(item["text"] for item in incident["evidence"])
    assert "ledger-writer" in texts and "index-writer" in texts
    assert callers.failures() == []
    assert callers.lost_or_doubled() == []
    note(DEADLOCK, setup, float(incident["mttr_s"]), count(callers))
