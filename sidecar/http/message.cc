#include "sidecar/http/message.h"

#include <algorithm>

#include "sidecar/http/fields.h"

namespace remora::http {
namespace {

// The emptied storage of dead HeaderMaps, so that a message costs no malloc in the steady state.
using FieldVector = std::vector<HeaderField>;

std::vector<FieldVector>& field_vector_pool() {
  thread_local std::vector<FieldVector> pool;
  return pool;
}

}  // namespace

bool iequals(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (to_lower(a[i]) != to_lower(b[i])) return false;
  }
  return true;
}

HeaderMap::HeaderMap(const HeaderMap& other) { *this = other; }

HeaderMap& HeaderMap::operator=(const HeaderMap& other) {
  if (this == &other) return *this;
  if (fields_.capacity() == 0) take_storage();
  fields_.assign(other.fields_.begin(), other.fields_.end());
  return *this;
}

HeaderMap& HeaderMap::operator=(HeaderMap&& other) noexcept {
  fields_.swap(other.fields_);
  other.fields_.clear();
  return *this;
}

HeaderMap::~HeaderMap() {
  if (fields_.capacity() == 0 || fields_.capacity() > pooled_fields_max) return;
  std::vector<FieldVector>& pool = field_vector_pool();
  if (pool.size() >= pool_size_max) return;
  fields_.clear();
  pool.push_back(std::move(fields_));
}

void HeaderMap::take_storage() {
  std::vector<FieldVector>& pool = field_vector_pool();
  if (pool.empty()) {
    fields_.reserve(initial_fields);
    return;
  }
  fields_ = std::move(pool.back());
  pool.pop_back();
}

std::optional<std::string_view> HeaderMap::find(std::string_view name) const {
  for (const HeaderField& field : fields_) {
    if (iequals(field.name, name)) return field.value;
  }
  return std::nullopt;
}

size_t HeaderMap::count(std::string_view name) const {
  return static_cast<size_t>(std::ranges::count_if(
      fields_, [name](const HeaderField& field) { return iequals(field.name, name); }));
}

void HeaderMap::remove(std::string_view name) {
  std::erase_if(fields_, [name](const HeaderField& field) { return iequals(field.name, name); });
}

void HeaderMap::set(std::string_view name, std::string_view value) {
  const auto first = std::ranges::find_if(
      fields_, [name](const HeaderField& field) { return iequals(field.name, name); });
  if (first == fields_.end()) {
    add(name, value);
    return;
  }
  first->value = value;
  fields_.erase(
      std::remove_if(first + 1, fields_.end(),
                     [name](const HeaderField& field) { return iequals(field.name, name); }),
      fields_.end());
}

bool is_safe_method(std::string_view method) {
  return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "TRACE";
}

}  // namespace remora::http
