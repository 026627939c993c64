// A copy of all objects of one resource, or of those that a selector names, that keeps itself up to
// date: it lists them once and then watches, from the version of the list on. A watch that ends is
// taken up at the last version that was heard of (bookmarks move that on where nothing happens);
// when the server no longer knows that version (410) everything is listed again and compared, so
// that handlers hear of each difference exactly once, deletions that nobody told of included.
//
// Whoever fails pauses, longer each time, with jitter. Handlers run inside the reading of an event
// and should do no more than put a key into a queue.
//
// Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "k8s/api/list.h"
#include "k8s/watch/backoff.h"
#include "k8s/watch/event_reader.h"
#include "k8s/watch/object.h"

namespace remora::k8s {

// A watch is asked to end after this, and up to as much again: no server is bound for ever.
inline constexpr int watch_life_s = 300;
inline constexpr BackoffRules watch_backoff{std::chrono::milliseconds(800),
                                            std::chrono::seconds(30)};
// One that lived this long was no failure.
inline constexpr int watch_good_ms = 10'000;
inline constexpr size_t cache_objects_max = 200'000;

struct CacheOptions {
  std::string path;        // "/api/v1/pods"
  std::string selector{};  // "labelSelector=a%3Db", ready for a query; empty: all
  // Takes away what nobody will read, for memory. Managed fields are always taken away.
  std::function<void(nlohmann::ordered_json& object)> trim{};
  uint32_t seed = 1;  // of the jitter
};

struct CacheStats {
  uint64_t lists = 0;
  uint64_t watches = 0;
  uint64_t events = 0;
  uint64_t failures = 0;
};

class ObjectCache {
 public:
  // before null: it is new; after null: it is gone.
  using Handler = std::function<void(const ObjectPtr& before, const ObjectPtr& after)>;

  // client must outlive it.
  ObjectCache(Loop& loop, ApiClient& client, CacheOptions options);
  ObjectCache(const ObjectCache&) = delete;
  ObjectCache& operator=(const ObjectCache&) = delete;
  ~ObjectCache() = default;

  void on_change(Handler handler) { handlers_.push_back(std::move(handler)); }
  // synced is called once, when all objects are known for the first time.
  void start(Task synced = nullptr);

  bool synced() const { return synced_; }
  // Whether what is here was the cluster's state at most that long ago: a watch is open and has
  // been heard of since. Whoever would do harm with an old picture asks first.
  bool is_fresh(Duration age_max) const;
  // Null when there is none.
  ObjectPtr find(const std::string& key) const;
  const std::map<std::string, ObjectPtr>& objects() const { return objects_; }
  const CacheStats& stats() const { return stats_; }
  // What keeps it from being fresh, in words; empty when nothing does.
  const std::string& trouble() const { return trouble_; }

 private:
  void list();
  void end_list(const Result<void>& result);
  void watch();
  void on_bytes(std::string_view bytes);
  bool on_event(EventType type, nlohmann::ordered_json& object);
  bool on_error_event(const nlohmann::ordered_json& status);
  void end_watch(const Result<ApiReply>& reply);
  void put(const ObjectPtr& object);
  void remove(const std::string& key);
  void tell(const ObjectPtr& before, const ObjectPtr& after) const;
  ObjectPtr accept(nlohmann::ordered_json& body) const;
  void pause(bool list_again, const std::string& why);
  void go_on(bool list_again);

  Loop& loop_;
  ApiClient& client_;
  const CacheOptions options_;
  std::vector<Handler> handlers_;
  Task on_synced_;
  std::map<std::string, ObjectPtr> objects_;
  std::map<std::string, ObjectPtr> listed_;
  std::string version_;
  bool synced_ = false;
  bool watching_ = false;
  bool list_next_ = false;  // the watch has said that its version is gone
  bool ended_ = false;      // the watch has said that it failed
  MonotonicTime began_{};
  MonotonicTime heard_at_{};
  uint32_t failures_ = 0;  // in a row
  std::string trouble_;
  std::minstd_rand random_;
  CacheStats stats_;
  ApiRequest request_;
  EventReader reader_;
  std::optional<PagedList> pages_;
  std::unique_ptr<ApiCall> call_;
  Subscription next_;
};

}  // namespace remora::k8s
