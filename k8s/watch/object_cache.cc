#include "k8s/watch/object_cache.h"

#include <algorithm>
#include <utility>

#include "sidecar/base/log.h"

namespace remora::k8s {
namespace {

using Json = nlohmann::ordered_json;

std::string text_member(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string version_of(const Json& object) {
  const auto metadata = object.find("metadata");
  return metadata != object.end() && metadata->is_object()
             ? text_member(*metadata, "resourceVersion")
             : std::string();
}

}  // namespace

ObjectPtr make_object(Json body) {
  if (!body.is_object()) return nullptr;
  const auto metadata = body.find("metadata");
  if (metadata == body.end() || !metadata->is_object()) return nullptr;
  metadata->erase("managedFields");
  auto object = std::make_shared<Object>();
  object->namespace_name = text_member(*metadata, "namespace");
  object->name = text_member(*metadata, "name");
  object->uid = text_member(*metadata, "uid");
  object->resource_version = text_member(*metadata, "resourceVersion");
  if (object->name.empty() || object->resource_version.empty()) return nullptr;
  object->body = std::move(body);
  return object;
}

ObjectCache::ObjectCache(Loop& loop, ApiClient& client, CacheOptions options)
    : loop_(loop), client_(client), options_(std::move(options)), random_(options_.seed) {}

void ObjectCache::start(Task synced) {
  on_synced_ = std::move(synced);
  next_ = loop_.add_timer({}, [this] { list(); });
}

bool ObjectCache::is_fresh(Duration age_max) const {
  return synced_ && watching_ && loop_.clock().now() - heard_at_ <= age_max;
}

ObjectPtr ObjectCache::find(const std::string& key) const {
  const auto found = objects_.find(key);
  return found == objects_.end() ? nullptr : found->second;
}

void ObjectCache::list() {
  ++stats_.lists;
  listed_.clear();
  const std::string query = options_.selector.empty() ? "" : "?" + options_.selector;
  pages_.emplace(
      client_, options_.path + query,
      [this](const Json& item) {
        Json body = item;
        ObjectPtr object = accept(body);
        if (object != nullptr && listed_.size() < cache_objects_max) {
          listed_[object->key()] = std::move(object);
        }
      },
      [this](const Result<void>& result) { end_list(result); });
}

ObjectPtr ObjectCache::accept(Json& body) const {
  if (options_.trim) options_.trim(body);
  return make_object(std::move(body));
}

void ObjectCache::end_list(const Result<void>& result) {
  if (!result) return pause(true, result.error().message);
  version_ = pages_->resource_version();
  heard_at_ = loop_.now();
  std::map<std::string, ObjectPtr> fresh = std::exchange(listed_, {});
  std::vector<std::string> gone;
  for (const auto& [key, object] : objects_) {
    if (!fresh.contains(key)) gone.push_back(key);
  }
  for (const std::string& key : gone) remove(key);
  for (const auto& [key, object] : fresh) put(object);
  if (!std::exchange(synced_, true) && on_synced_) std::exchange(on_synced_, nullptr)();
  watch();
}

void ObjectCache::watch() {
  ++stats_.watches;
  reader_ = {};
  list_next_ = ended_ = watching_ = false;
  began_ = loop_.now();
  std::uniform_int_distribution<int> life(watch_life_s, 2 * watch_life_s);
  request_ = {.path = options_.path + "?watch=1&allowWatchBookmarks=true&resourceVersion=" +
                      percent_encoded(version_) +
                      "&timeoutSeconds=" + std::to_string(life(random_))};
  if (!options_.selector.empty()) request_.path += "&" + options_.selector;
  call_ = client_.stream(
      request_, [this](std::string_view bytes) { on_bytes(bytes); },
      [this](const Result<ApiReply>& reply) { end_watch(reply); });
}

void ObjectCache::on_bytes(std::string_view bytes) {
  watching_ = true;
  heard_at_ = loop_.now();
  trouble_.clear();
  const Result<void> read =
      reader_.feed(bytes, [this](EventType type, Json& object) { return on_event(type, object); });
  if (read && !ended_) return;
  // Nothing that follows in this stream would mean anything.
  call_.reset();
  if (read) return end_watch(ApiReply{.status = 200, .body = {}});
  pause(true, read.error().message);
}

bool ObjectCache::on_event(EventType type, Json& object) {
  ++stats_.events;
  if (type == EventType::kError) return on_error_event(object);
  std::string version = version_of(object);
  if (version.empty()) return true;
  version_ = std::move(version);
  if (type == EventType::kBookmark) return true;
  const ObjectPtr changed = accept(object);
  if (changed == nullptr) return true;
  if (type == EventType::kDeleted) {
    remove(changed->key());
  } else {
    put(changed);
  }
  return true;
}

bool ObjectCache::on_error_event(const Json& status) {
  constexpr int64_t gone = 410;
  const auto code = status.find("code");
  list_next_ = code != status.end() && code->is_number_integer() && code->get<int64_t>() == gone;
  trouble_ = "the watch ended: " + text_member(status, "message");
  ended_ = true;
  return false;
}

void ObjectCache::end_watch(const Result<ApiReply>& reply) {
  watching_ = false;
  if (!reply) return pause(false, reply.error().message);
  if (!reply->ok()) {
    const ApiProblem problem = api_problem(request_, *reply);
    if (problem.fault != ApiFault::kGone) return pause(false, problem.error.message);
    list_next_ = true;
  }
  // Ended as it should, or its version is gone: go on at once, unless that happens all the time.
  const bool good = loop_.now() - began_ >= std::chrono::milliseconds(watch_good_ms);
  if (good) failures_ = 0;
  if (good || failures_ == 0) {
    if (!good) ++failures_;
    return go_on(list_next_);
  }
  pause(list_next_, trouble_.empty() ? request_.path + ": watches end at once" : trouble_);
}

void ObjectCache::put(const ObjectPtr& object) {
  ObjectPtr& place = objects_[object->key()];
  const ObjectPtr before = std::exchange(place, object);
  if (before != nullptr && before->resource_version == object->resource_version &&
      before->uid == object->uid) {
    return;
  }
  // Deleted and made anew in between: two objects, two lives.
  if (before != nullptr && before->uid != object->uid) {
    tell(before, nullptr);
    return tell(nullptr, object);
  }
  tell(before, object);
}

void ObjectCache::remove(const std::string& key) {
  const auto node = objects_.extract(key);
  if (!node.empty()) tell(node.mapped(), nullptr);
}

void ObjectCache::tell(const ObjectPtr& before, const ObjectPtr& after) const {
  for (const Handler& handler : handlers_) handler(before, after);
}

void ObjectCache::pause(bool list_again, const std::string& why) {
  ++stats_.failures;
  watching_ = false;
  if (loop_.now() - began_ >= std::chrono::milliseconds(watch_good_ms) && !list_again) {
    failures_ = 0;
  }
  if (why != trouble_ || failures_ == 0) {
    log_warn("watch_failed", {{"path", options_.path}, {"error", why}});
  }
  trouble_ = why;
  next_ = loop_.add_timer(backoff_pause(watch_backoff, failures_++, random_),
                          [this, list_again] { go_on(list_again); });
}

void ObjectCache::go_on(bool list_again) {
  if (list_again || !synced_) return list();
  watch();
}

}  // namespace remora::k8s
