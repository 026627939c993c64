// Reads a whole collection of the API server, page by page, so that no answer and no turn of the
// loop gets large. A page that is too large all the same is asked for again in smaller ones.
//
// Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "k8s/api/client.h"

namespace remora::k8s {

// A pod may have some hundred KiB; a hundred usual ones make one MiB, some 10 ms of parsing.
inline constexpr int list_page_items = 100;
inline constexpr int list_page_items_min = 5;
inline constexpr int list_pages_max = 10'000;

// One reading; destroying it abandons it.
class PagedList {
 public:
  using Item = std::function<void(const nlohmann::ordered_json& item)>;
  using Done = std::move_only_function<void(Result<void>)>;

  // path: of the collection, with or without a query. item is called for each object. done is
  // called once, from the loop; it may destroy this. Errors: those of ApiClient::call and
  // api_error, kProtocol for an answer that is no list. After an error the items so far are not
  // all.
  PagedList(ApiClient& client, std::string path, Item item, Done done);
  PagedList(const PagedList&) = delete;
  PagedList& operator=(const PagedList&) = delete;
  ~PagedList() = default;

  // Of the collection when it was read; known once done is called.
  const std::string& resource_version() const { return resource_version_; }

 private:
  void ask();
  void receive(Result<ApiReply> reply);
  void finish(Result<void> result);

  ApiClient& client_;
  const std::string path_;
  Item item_;
  Done done_;
  ApiRequest request_;
  std::string continue_;
  std::string resource_version_;
  int page_items_ = list_page_items;
  int pages_ = 0;
  std::unique_ptr<ApiCall> call_;
};

}  // namespace remora::k8s
