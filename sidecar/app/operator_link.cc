#include "sidecar/app/operator_link.h"

#include <algorithm>
#include <cstdlib>
#include <random>
#include <utility>

#include "config/pod.h"
#include "config/read_file.h"
#include "sidecar/app/link_report.h"
#include "sidecar/base/log.h"
#include "sidecar/heal/durable_file.h"
#include "sidecar/net/tcp.h"

namespace remora {
namespace {

constexpr size_t authorities_bytes_max = 64 * 1024;

std::string environment(const char* name) {
  const char* const text = std::getenv(name);
  return text == nullptr ? std::string() : text;
}

std::string contents(const std::string& store, std::string_view file, size_t bytes_max) {
  return read_small_file(store + "/" + std::string(file), bytes_max).value_or(std::string());
}

}  // namespace

// What is in a store, as the worker has found it.
struct OperatorLink::Read {
  ReportMark mark;
  RequestRecord requests;
  std::vector<link::v1::IncidentReport> reports;  // closed and not settled
  bool has_open = false;
  bool has_more = false;
};

OperatorLink::OperatorLink(App& app, const AppLink& settings, TakePolicy take_policy)
    : app_(app),
      loop_(app.loop()),
      pod_uid_(environment("REMORA_POD_UID")),
      take_policy_(std::move(take_policy)),
      trusted_pem_(settings.trusted_pem),
      trusted_file_(settings.trusted_file),
      client_(app.event_loop(),
              {.host = settings.host,
               .port = settings.port,
               .token_file = settings.token_file,
               .trusted_pem = [this] { return trusted(); },
               .socket_priority = settings.is_redirected ? own_socket_priority : 0,
               .seed = std::random_device()()},
              {.on_open = [this] { on_open(); },
               .on_message = [this](const link::v1::OperatorMessage& m) { on_message(m); },
               .on_closed = [this](const std::string&) { on_closed(); }}) {
  for (const auto& unit : app_.units()) {
    Agent& agent = agents_[unit->name()];
    agent.unit = unit.get();
    agent.store = unit->config().snapshots().store();
    agent.claim = settings.claim;
    if (unit->snapshots() == nullptr) continue;
    unit->snapshots()->on_change([this, name = unit->name()] { tell_snapshots(*find(name)); });
  }
}

OperatorLink::~OperatorLink() {
  *alive_ = false;
  for (const auto& [name, agent] : agents_) {
    if (agent.unit->snapshots() != nullptr) agent.unit->snapshots()->on_change({});
  }
}

void OperatorLink::start() {
  for (auto& [name, agent] : agents_) read_store(agent);
  client_.start();
}

OperatorLink::Agent* OperatorLink::find(std::string_view name) {
  const auto found = agents_.find(std::string(name));
  return found == agents_.end() ? nullptr : &found->second;
}

// The newest word, and it alone: an authority that was taken away is not believed any more. What
// the kubelet has brought since the operator last spoke is newer than that; the injection's is the
// oldest.
std::string OperatorLink::trusted() {
  Result<std::string> mounted = config::read_file(trusted_file_, authorities_bytes_max);
  if (mounted && !mounted->empty() && *mounted != mounted_pem_) {
    mounted_pem_ = std::move(*mounted);
    learned_pem_.clear();
  }
  if (!learned_pem_.empty()) return learned_pem_;
  return mounted_pem_.empty() ? trusted_pem_ : mounted_pem_;
}

void OperatorLink::read_store(Agent& agent) {
  const std::string name = agent.unit->name();
  if (agent.store.empty()) {
    agent.is_read = true;
    return;
  }
  worker_.submit([this, alive = alive_, name, store = agent.store, pod = pod_uid_] {
    Read read;
    read.mark = ReportMark::parse(contents(store, report_mark_file, report_mark_bytes_max));
    read.requests =
        RequestRecord::parse(contents(store, request_record_file, request_record_bytes_max));
    const Result<IncidentListing> listing = list_incidents(store);
    if (listing) {
      const auto& all = listing->incidents;
      read.mark.begin(pod, all.empty() ? std::string() : all.back().id);
      for (const Incident& incident : all) {
        if (read.mark.is_settled(incident.id)) continue;
        // One that is open now comes from the supervisor; one that isn't is about to be closed.
        read.has_open = read.has_open || incident.status == IncidentStatus::kOpen;
        if (incident.status == IncidentStatus::kOpen) continue;
        read.has_more = read.reports.size() >= reports_waiting_max;
        if (read.has_more) break;
        read.reports.push_back(incident_report(name, incident));
      }
    }
    loop_.post_from_any_thread([this, alive, name, read = std::move(read)]() mutable {
      if (*alive) on_read(name, std::move(read));
    });
  });
}

void OperatorLink::on_read(const std::string& name, Read read) {
  Agent& agent = *find(name);
  if (!std::exchange(agent.is_read, true)) {
    agent.mark = std::move(read.mark);
    agent.requests = std::move(read.requests);
    agent.requests.close_left_open();
  }
  agent.has_more = read.has_more;
  for (link::v1::IncidentReport& report : read.reports) {
    if (agent.mark.is_settled(report.id())) continue;
    agent.waiting.try_emplace(report.id(), std::move(report));
  }
  if (read.has_open) {
    read_again_ = loop_.add_timer(std::chrono::milliseconds(reports_read_again_ms), [this, name] {
      Agent& later = *find(name);
      if (later.unit->supervisor().open_incident() == nullptr) read_store(later);
    });
  }
  pump(agent);
}

void OperatorLink::save(const Agent& agent, std::string_view file, std::string text, Task then) {
  // In a store that another has taken over these files are the other's.
  const Snapshots* const snapshots = agent.unit->snapshots();
  const bool is_lost = snapshots != nullptr && snapshots->epoch() == 0;
  if (agent.store.empty() || is_lost) {
    if (then) loop_.post(std::move(then));
    return;
  }
  worker_.submit([this, alive = alive_, store = agent.store, file = std::string(file),
                  text = std::move(text), then = std::move(then)]() mutable {
    Result<void> written = write_file_durably(store, file, text);
    loop_.post_from_any_thread([alive = std::move(alive), file = std::move(file),
                                then = std::move(then), written = std::move(written)]() mutable {
      if (!written) log_warn("not_kept", {{"file", file}, {"error", written.error().message}});
      if (*alive && then) then();
    });
  });
}

void OperatorLink::tell(std::string_view name, const Incident& incident) {
  Agent* const agent = find(name);
  if (agent == nullptr) return;
  if (agent->waiting.size() >= reports_waiting_max && !agent->waiting.contains(incident.id)) {
    agent->has_more = true;
    return;
  }
  agent->waiting[incident.id] = incident_report(name, incident);
  pump(*agent);
}

void OperatorLink::on_open() {
  link::v1::SidecarMessage message;
  link::v1::Hello& hello = *message.mutable_hello();
  hello.set_version(REMORA_VERSION);
  for (const auto& [name, agent] : agents_) {
    link::v1::AgentInfo& info = *hello.add_agents();
    info.set_container(name);
    info.set_claim(agent.claim);
    const Snapshots* const snapshots = agent.unit->snapshots();
    info.set_epoch(snapshots == nullptr ? 0 : snapshots->epoch());
  }
  client_.send(message);
  log_info("operator_connected");
  for (auto& [name, agent] : agents_) {
    agent.under_way.clear();
    tell_snapshots(agent);
    pump(agent);
  }
}

void OperatorLink::on_closed() { answer_limit_.cancel(); }

void OperatorLink::on_message(const link::v1::OperatorMessage& message) {
  switch (message.message_case()) {
    case link::v1::OperatorMessage::kWelcome:
      return on_welcome(message.welcome());
    case link::v1::OperatorMessage::kAcknowledgement:
      return on_acknowledged(message.acknowledgement());
    case link::v1::OperatorMessage::kCommand:
      return on_command(message.command());
    case link::v1::OperatorMessage::kLease:
      return on_lease(message.lease());
    case link::v1::OperatorMessage::kSettings:
      return on_settings(message.settings());
    case link::v1::OperatorMessage::MESSAGE_NOT_SET:
      return;  // of a later version
  }
}

void OperatorLink::on_welcome(const link::v1::Welcome& welcome) {
  const std::string& told = welcome.trusted_pem();
  if (!told.empty() && told.size() <= authorities_bytes_max) learned_pem_ = told;
}

void OperatorLink::on_settings(const link::v1::Settings& settings) {
  config::PolicyValues fresh{.policy = settings.policy(), .generation = settings.generation()};
  size_t bytes = 0;
  for (const auto& [key, value] : settings.annotations()) {
    bytes += key.size() + value.size();
    fresh.annotations.emplace(key, value);
  }
  const std::string problem = bytes > config::annotations_bytes_max
                                  ? "they are larger than annotations may be"
                                  : take_policy_(std::move(fresh));
  log_info(
      "policy_settings",
      {{"policy", settings.policy()}, {"generation", settings.generation()}, {"problem", problem}});
  link::v1::SidecarMessage message;
  link::v1::SettingsReport& report = *message.mutable_settings();
  report.set_policy(settings.policy());
  report.set_generation(settings.generation());
  report.set_problem(link_text(problem));
  client_.send(message);
}

void OperatorLink::pump(Agent& agent) {
  if (!client_.is_open() || !agent.is_read) return;
  for (const auto& [id, report] : agent.waiting) {
    if (agent.under_way.size() >= reports_under_way_max) break;
    if (agent.under_way.contains(id)) continue;
    agent.under_way[id] = report.outcome();
    link::v1::SidecarMessage message;
    *message.mutable_incident() = report;
    client_.send(message);
    answer_limit_ = loop_.add_timer(std::chrono::milliseconds(report_answer_ms_max), [this] {
      client_.restart("a report was not acknowledged in time");
    });
  }
}

void OperatorLink::on_acknowledged(const link::v1::Acknowledgement& word) {
  Agent* const agent = find(word.container());
  if (agent == nullptr || agent->under_way.erase(word.id()) == 0) return;
  const bool all_answered =
      std::ranges::all_of(agents_, [](const auto& one) { return one.second.under_way.empty(); });
  if (all_answered) answer_limit_.cancel();
  const auto told = agent->waiting.find(word.id());
  // It may have ended meanwhile: that is told next.
  if (told != agent->waiting.end() && told->second.outcome() == word.outcome()) {
    agent->waiting.erase(told);
    if (word.outcome() != "open") {
      std::string oldest = agent->waiting.empty() ? std::string() : agent->waiting.begin()->first;
      const Incident* const open = agent->unit->supervisor().open_incident();
      if (open != nullptr && (oldest.empty() || open->id < oldest)) oldest = open->id;
      agent->mark.settle(word.id(), oldest);
      save(*agent, report_mark_file, agent->mark.text(), {});
    }
  }
  if (agent->waiting.empty() && std::exchange(agent->has_more, false)) read_store(*agent);
  pump(*agent);
}

void OperatorLink::tell_snapshots(Agent& agent) {
  if (!client_.is_open() || agent.unit->snapshots() == nullptr) return;
  agent.unit->snapshots()->list([this, alive = alive_, name = agent.unit->name()](
                                    Result<std::vector<checkpoint::SnapshotInfo>> all) {
    if (!*alive) return;
    if (!all) return log_warn("snapshots_not_listed", {{"error", all.error().message}});
    link::v1::SidecarMessage message;
    *message.mutable_snapshots() = snapshot_report(name, *all);
    client_.send(message);
  });
}

}  // namespace remora
