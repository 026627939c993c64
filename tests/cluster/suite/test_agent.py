"""A LangGraph agent with Kubernetes alone: what Remora is compared with."""

import agents


def test_a_conversation_outlives_its_pod_and_moves_to_another_node(kube, nodes, agent_image,
                                                                   python_image):
    kube.apply(*agents.model(agent_image), agents.caller(python_image),
               *agents.agent_with_state(agent_image, node=nodes[0]))
    for name in ("model", "caller", "agent"):
        kube.wait_ready(name)
    agents.wait_reachable(kube)
    first = agents.chat(kube, "thread", "one two three", "first")
    assert first["turn"] == 1 and "3 words in turn 1" in first["reply"]

    kube.delete("pod", "agent")
    kube.wait_gone("pod", "agent")
    kube.apply(agents.agent_pod(agent_image, node=nodes[1]))
    kube.wait_ready("agent")
    agents.wait_reachable(kube)
    again = agents.chat(kube, "thread", "one two three", "first")
    assert again["replayed"] and again["turn"] == 1
    second = agents.chat(kube, "thread", "four five", "second")
    assert second["turn"] == 2 and not second["replayed"]
