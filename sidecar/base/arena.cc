#include "sidecar/base/arena.h"

namespace remora {
namespace {

std::vector<std::unique_ptr<Arena>>& pool() {
  thread_local std::vector<std::unique_ptr<Arena>> arenas;
  return arenas;
}

}  // namespace

void ArenaReturner::operator()(Arena* arena) const {
  std::unique_ptr<Arena> owned(arena);
  if (pool().size() >= arena_pool_size_max) return;
  owned->reset();
  pool().push_back(std::move(owned));
}

ArenaPtr take_arena() {
  if (pool().empty()) return ArenaPtr(new Arena);
  ArenaPtr arena(pool().back().release());
  pool().pop_back();
  return arena;
}

}  // namespace remora
