"""What images/compose.yaml promises, without Docker: nothing privileged, and the wiring of the
namespaces. ./dev docker test runs it."""

import pytest
import yaml


@pytest.fixture(scope="module")
def services(source):
    with open(source / "images/compose.yaml", encoding="utf-8") as file:
        return yaml.safe_load(file)["services"]


def test_every_service_is_as_confined_as_it_can_be(services):
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged") and not service.get("cap_add"), name
        assert not any("docker.sock" in volume for volume in service.get("volumes", [])), name


def test_agent_and_remora_share_the_namespaces_of_one_that_does_nothing(services):
    agent, remora = services["agent"], services["remora"]
    for service in (agent, remora):
        assert service["network_mode"] == service["pid"] == "service:pod"
        assert service["restart"] == "always"
    assert services["pod"]["command"] == ["hold"]
    assert agent["user"] == remora["user"]
    assert agent["environment"]["REMORA_AGENT"] == "agent"


def test_remora_is_stopped_before_the_agent(services):
    """Compose stops in the reverse order of dependencies."""
    assert services["remora"]["depends_on"] == ["agent"]


def test_one_port_is_published_and_only_to_this_machine(services):
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports == {"pod": ["127.0.0.1:${PORT:-8080}:8080"]}


def test_the_agent_has_no_way_to_the_snapshots(services):
    mounted = {name: {v.split(":")[0] for v in service.get("volumes", [])}
               for name, service in services.items()}
    assert "state" in mounted["agent"] and "snapshots" not in mounted["agent"]
    assert {"state", "snapshots"} <= mounted["remora"]


def test_every_file_that_it_mounts_or_builds_from_exists(source, services):
    folder = source / "images"
    for service in services.values():
        for volume in service.get("volumes", []):
            if volume.startswith("."):
                assert (folder / volume.split(":")[0]).is_file(), volume
        if "build" in service:
            context = folder / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).is_file()
