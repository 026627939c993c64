// HTTP messages as the proxy sees them: semantics without framing (RFC 9110), the same for HTTP/1.1
// and HTTP/2. Codecs take the connection-level fields out when they parse (Connection and what it
// nominates, Keep-Alive, Proxy-Connection, Transfer-Encoding, Upgrade, TE other than "trailers",
// HTTP2-Settings; RFC 9110 section 7.6.1), Host and Content-Length, and put in their own when they
// serialise.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "sidecar/base/arena.h"

namespace remora::http {

enum class Version : uint8_t { kHttp10, kHttp11, kHttp2 };

// ASCII case-insensitive equality, as field names and most tokens need.
bool iequals(std::string_view a, std::string_view b);

struct HeaderField {
  std::string_view name;  // as received; compared without case; lower-cased for HTTP/2
  std::string_view value;
};

// An ordered list of fields. Views belong to the message's arena (or are literals). The storage is
// pooled per thread.
class HeaderMap {
 public:
  HeaderMap() = default;
  HeaderMap(const HeaderMap& other);
  HeaderMap(HeaderMap&& other) noexcept = default;
  HeaderMap& operator=(const HeaderMap& other);
  HeaderMap& operator=(HeaderMap&& other) noexcept;
  ~HeaderMap();

  void add(std::string_view name, std::string_view value) {
    if (fields_.capacity() == 0) take_storage();
    fields_.push_back({name, value});
  }
  // The first field of that name.
  std::optional<std::string_view> find(std::string_view name) const;
  bool contains(std::string_view name) const { return find(name).has_value(); }
  // How many fields of that name.
  size_t count(std::string_view name) const;
  // Removes every field of that name.
  void remove(std::string_view name);
  // Leaves exactly one field of that name.
  void set(std::string_view name, std::string_view value);

  size_t size() const { return fields_.size(); }
  bool empty() const { return fields_.empty(); }
  void clear() { fields_.clear(); }
  auto begin() const { return fields_.begin(); }
  auto end() const { return fields_.end(); }

 private:
  static constexpr size_t initial_fields = 24;
  static constexpr size_t pooled_fields_max = 256;  // larger storage goes back to malloc
  static constexpr size_t pool_size_max = 64;
  void take_storage();

  std::vector<HeaderField> fields_;
};

struct RequestHead {
  ArenaPtr arena = take_arena();  // owns every view below
  Version version = Version::kHttp11;
  std::string_view method;
  std::string_view scheme;     // "http" or "https"; HTTP/1.1 origin form: "http"
  std::string_view authority;  // from Host or :authority; may be empty for HTTP/1.0
  std::string_view path;       // origin form with query, "*" for OPTIONS *; for CONNECT empty
  HeaderMap headers;           // without Host and Content-Length
  std::optional<uint64_t> content_length;
  std::string_view upgrade;  // the Upgrade token, when the client asks to switch protocols
};

struct ResponseHead {
  ArenaPtr arena = take_arena();
  Version version = Version::kHttp11;
  int status = 0;           // 100 to 599
  std::string_view reason;  // HTTP/1.1 only, may be empty
  HeaderMap headers;
  std::optional<uint64_t> content_length;
  std::string_view upgrade;  // the Upgrade field of a 101 or a 426
};

// RFC 9110 section 9.2.1: GET, HEAD, OPTIONS, TRACE.
bool is_safe_method(std::string_view method);

}  // namespace remora::http
