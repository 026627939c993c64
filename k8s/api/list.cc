#include "k8s/api/list.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace remora::k8s {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

PagedList::PagedList(ApiClient& client, std::string path, Item item, Done done)
    : client_(client), path_(std::move(path)), item_(std::move(item)), done_(std::move(done)) {
  ask();
}

void PagedList::ask() {
  request_.path = path_ + (path_.find('?') == std::string::npos ? "?" : "&") +
                  "limit=" + std::to_string(page_items_);
  if (!continue_.empty()) request_.path += "&continue=" + percent_encoded(continue_);
  call_ = client_.call(request_, [this](Result<ApiReply> reply) { receive(std::move(reply)); });
}

void PagedList::receive(Result<ApiReply> reply) {
  if (!reply && reply.error().code == ErrorCode::kLimitExceeded &&
      page_items_ > list_page_items_min) {
    page_items_ = std::max(page_items_ / 4, list_page_items_min);
    return ask();
  }
  if (!reply) return finish(std::unexpected(std::move(reply.error())));
  if (!reply->ok()) return finish(std::unexpected(api_error(request_, *reply)));
  const Json page = Json::parse(reply->body, nullptr, false);
  const auto items = page.is_object() ? page.find("items") : page.end();
  const auto metadata = page.is_object() ? page.find("metadata") : page.end();
  // A list of Go that holds nothing may be null.
  if (!page.is_object() || items == page.end() || !(items->is_array() || items->is_null()) ||
      metadata == page.end() || !metadata->is_object()) {
    return finish(make_error(ErrorCode::kProtocol, ErrorSource::kUpstream,
                             request_.path + ": the answer is no list"));
  }
  for (const Json& item : *items) item_(item);
  continue_.clear();
  const auto next = metadata->find("continue");
  if (next != metadata->end() && next->is_string()) continue_ = next->get<std::string>();
  const auto version = metadata->find("resourceVersion");
  if (version != metadata->end() && version->is_string()) {
    resource_version_ = version->get<std::string>();
  }
  if (continue_.empty()) return finish({});
  if (++pages_ >= list_pages_max) {
    return finish(make_error(ErrorCode::kLimitExceeded, ErrorSource::kUpstream,
                             path_ + ": more than " + std::to_string(list_pages_max) + " pages"));
  }
  ask();
}

void PagedList::finish(Result<void> result) {
  Done done = std::move(done_);
  done(std::move(result));
}

}  // namespace remora::k8s
