#include "k8s/lease/lease_record.h"

#include <nlohmann/json.hpp>

#include "sidecar/base/rfc3339.h"

namespace remora::k8s {
namespace {

using Json = nlohmann::ordered_json;

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

int64_t number_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
}

}  // namespace

Result<LeaseRecord> read_lease(std::string_view json) {
  const Json lease = Json::parse(json, nullptr, false);
  const auto metadata = lease.is_object() ? lease.find("metadata") : lease.end();
  if (!lease.is_object() || metadata == lease.end() || !metadata->is_object()) {
    return make_error(ErrorCode::kProtocol, ErrorSource::kUpstream, "the answer is no Lease");
  }
  LeaseRecord record;
  record.resource_version = text_of(*metadata, "resourceVersion");
  const auto spec = lease.find("spec");
  if (spec == lease.end() || !spec->is_object()) return record;
  record.holder = text_of(*spec, "holderIdentity");
  record.duration_s = number_of(*spec, "leaseDurationSeconds");
  record.acquire_time = text_of(*spec, "acquireTime");
  record.renew_time = text_of(*spec, "renewTime");
  record.transitions = number_of(*spec, "leaseTransitions");
  return record;
}

std::string write_lease(const LeaseRecord& record, std::string_view namespace_name,
                        std::string_view name) {
  Json metadata = {{"name", name}, {"namespace", namespace_name}};
  if (!record.resource_version.empty()) metadata["resourceVersion"] = record.resource_version;
  return Json{{"apiVersion", "coordination.k8s.io/v1"},
              {"kind", "Lease"},
              {"metadata", std::move(metadata)},
              {"spec",
               {{"holderIdentity", record.holder},
                {"leaseDurationSeconds", record.duration_s},
                {"acquireTime", record.acquire_time},
                {"renewTime", record.renew_time},
                {"leaseTransitions", record.transitions}}}}
      .dump();
}

std::string micro_time(WallTime time) {
  return rfc3339_micro(
      std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count());
}

}  // namespace remora::k8s
