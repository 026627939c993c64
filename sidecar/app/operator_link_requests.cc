// The half of OperatorLink that carries out what the operator asks for.
#include <utility>

#include "sidecar/app/link_report.h"
#include "sidecar/app/operator_link.h"
#include "sidecar/base/log.h"

namespace remora {

void OperatorLink::answer(const Agent& agent, const DoneRequest& request) {
  link::v1::SidecarMessage message;
  link::v1::Outcome& outcome = *message.mutable_outcome();
  outcome.set_id(request.id);
  outcome.set_container(agent.unit->name());
  outcome.set_done(request.done);
  outcome.set_message(link_text(request.message));
  outcome.set_snapshot(request.snapshot);
  client_.send(message);
}

// Written down before it is begun, so that it is never begun twice.
void OperatorLink::on_command(const link::v1::Command& command) {
  Agent* const agent = find(command.container());
  if (agent == nullptr || !agent->is_read || command.id().empty()) return;
  if (const DoneRequest* known = agent->requests.find(command.id())) {
    if (known->is_over) answer(*agent, *known);
    return;
  }
  log_info("request", {{"id", command.id()},
                       {"action", command.action()},
                       {"agent", command.container()},
                       {"snapshot", command.snapshot()}});
  agent->requests.put({.id = command.id()});
  save(*agent, request_record_file, agent->requests.text(),
       [this, command] { carry_out(command.container(), command); });
}

// The store would refuse as soon as the other one has claimed it; this is sooner.
void OperatorLink::on_lease(const link::v1::Lease& lease) {
  Agent* const agent = find(lease.container());
  if (agent == nullptr || agent->unit->snapshots() == nullptr) return;
  const uint64_t own = agent->unit->snapshots()->epoch();
  if (own == 0) return;
  agent->unit->snapshots()->give_up_store(
      "the agent's identity is no longer this pod's (epoch " + std::to_string(own) +
      "): the operator says that it is of " + link_text(lease.holder()) + " (epoch " +
      std::to_string(lease.epoch()) + "); nothing more is published, end this pod");
}

void OperatorLink::carry_out(const std::string& name, const link::v1::Command& command) {
  AgentUnit& unit = *find(name)->unit;
  const auto end = [this, alive = alive_, name, id = command.id()](std::string message) {
    return [this, alive, name, id, message = std::move(message)](const Result<std::string>& how) {
      if (*alive) end_request(name, id, how, message);
    };
  };
  const std::string& action = command.action();
  if (action == "Restore" || action == "Restart") {
    const bool restore = action == "Restore";
    return unit.order(
        {.restore = restore,
         .snapshot = command.snapshot(),
         .why = "request " + command.id(),
         .done = end(restore ? "restored, and the agent is ready" : "the agent is ready again")});
  }
  if (action == "Snapshot" && unit.snapshots() != nullptr) {
    return unit.snapshots()->take(
        "requested", [&unit, ended = end("taken")](const Result<std::string>& taken) {
          ended(taken ? Result<std::string>(unit.snapshots()->status().last_id) : taken);
        });
  }
  if (action == "Drain") {
    app_.leave(/*pod_ends=*/false);
    return app_.when_drained(
        [ended = end("nothing is under way any more")] { ended(Result<std::string>("")); });
  }
  const std::string why = action == "Snapshot" ? "the agent has no snapshots: name its state with "
                                                 "remora.dev/state-dir"
                                               : "this version of the sidecar knows no " + action;
  end("")(make_error(ErrorCode::kInvalidArgument, ErrorSource::kDownstream, why));
}

void OperatorLink::end_request(const std::string& name, const std::string& id,
                               const Result<std::string>& how, std::string message) {
  Agent& agent = *find(name);
  DoneRequest request{.id = id, .is_over = true, .done = how.has_value()};
  if (how) {
    request.message = std::move(message);
    request.snapshot = *how;
  } else {
    request.message = how.error().message;
  }
  log_info("request_ended", {{"id", id}, {"done", request.done}, {"message", request.message}});
  agent.requests.put(request);
  save(agent, request_record_file, agent.requests.text(),
       [this, name, request] { answer(*find(name), request); });
  tell_snapshots(agent);
}

}  // namespace remora
