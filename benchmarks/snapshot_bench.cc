// How fast snapshots are taken and restored, beside the floor: a plain copy of the same tree with a
// SHA-256 of every file, which anything that must read, check and write it has to pay.
//
//   snapshot_bench [DIRECTORY] [MIB]
//
// Works in a new directory below DIRECTORY (default: the temporary directory), on a tree of MIB
// mebibytes (default 200): half of it in large files that don't compress, a quarter in text that
// does, a quarter in small files. All caches are warm; the volume is flushed before each timing
// and within it, as each of the measured steps makes its result durable.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "checkpoint/capture.h"
#include "checkpoint/hash.h"
#include "checkpoint/local_store.h"
#include "checkpoint/restore.h"
#include "checkpoint/verify.h"

namespace remora::checkpoint {
namespace {

constexpr size_t mib = 1 << 20;
constexpr int rounds = 5;

void require(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "snapshot_bench: %s\n", what.c_str());
  std::exit(1);
}

std::string noise(size_t bytes, uint64_t x) {
  std::string out(bytes, '\0');
  x = x * 0x9e3779b97f4a7c15 + 1;
  for (char& c : out) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    c = static_cast<char>(x);
  }
  return out;
}

std::string log_text(size_t bytes, uint64_t seed) {
  std::string out;
  for (uint64_t i = seed; out.size() < bytes; i = i * 6364136223846793005 + 1) {
    out += "{\"step\":" + std::to_string(i % 100'000) +
           ",\"tool\":\"search\",\"tokens\":" + std::to_string((i >> 32) % 4096) +
           ",\"status\":\"ok\"}\n";
  }
  return out;
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

size_t make_tree(const std::string& root, size_t total_mib) {
  std::filesystem::create_directories(root + "/small");
  const size_t large = std::max<size_t>(total_mib / 2 / 4, 1);
  for (size_t i = 0; i < 4; ++i) {
    write_file(root + "/large" + std::to_string(i), noise(large * mib, i + 1));
    write_file(root + "/log" + std::to_string(i), log_text(large * mib / 2, i + 1));
  }
  constexpr size_t small_bytes = 16 * 1024;
  const size_t small = total_mib / 4 * mib / small_bytes;
  for (size_t i = 0; i < small; ++i) {
    write_file(root + "/small/" + std::to_string(i), noise(small_bytes, i + 100));
  }
  size_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (entry.is_regular_file()) bytes += entry.file_size();
  }
  return bytes;
}

void flush(const std::string& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  require(fd >= 0 && ::syncfs(fd) == 0, "syncfs " + directory);
  ::close(fd);
}

// Read, hash, write: every byte once.
void copy_and_hash(const std::string& from, const std::string& to) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(from)) {
    const std::string target = to + "/" + std::filesystem::relative(entry.path(), from).string();
    if (entry.is_directory()) {
      std::filesystem::create_directories(target);
      continue;
    }
    std::filesystem::create_directories(std::filesystem::path(target).parent_path());
    std::ifstream in(entry.path(), std::ios::binary);
    std::ofstream out(target, std::ios::binary);
    std::string piece(mib, '\0');
    while (in.read(piece.data(), static_cast<std::streamsize>(piece.size())) || in.gcount() > 0) {
      const std::string_view bytes(piece.data(), static_cast<size_t>(in.gcount()));
      require(sha256(bytes) != Digest{}, "hash");
      out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }
  }
  flush(to);
}

// Median of a few rounds; `before` prepares each and is not timed.
double median_seconds(const std::function<void()>& before, const std::function<void()>& timed) {
  const SystemClock clock;
  std::vector<double> seconds;
  for (int i = 0; i < rounds; ++i) {
    before();
    const MonotonicTime begun = clock.now();
    timed();
    seconds.push_back(to_seconds(clock.now() - begun));
  }
  std::ranges::sort(seconds);
  return seconds[seconds.size() / 2];
}

void print_row(const char* name, double seconds, size_t bytes) {
  std::printf("%-34s %9.1f ms %9.0f MB/s\n", name, seconds * 1e3,
              static_cast<double>(bytes) / 1e6 / seconds);
  std::fflush(stdout);
}

void measure(const std::string& root, size_t total_mib) {
  const std::string state = root + "/state";
  const std::string store_path = root + "/store";
  const std::string copy = root + "/copy";
  const std::string out = root + "/out";
  const size_t bytes = make_tree(state, total_mib);
  const SystemClock clock;
  CaptureOptions options;
  options.state_dir = state;
  options.clock = &clock;
  std::unique_ptr<LocalStore> store;
  const auto open_new_store = [&] {
    store.reset();
    std::filesystem::remove_all(store_path);
    auto opened = LocalStore::open({.root = store_path, .mode = OpenMode::kCreate});
    require(opened.has_value(), "open store");
    store = std::move(*opened);
    flush(root);
  };
  const auto take = [&] {
    auto report = take_snapshot(*store, {}, options);
    require(report.has_value(), report ? "" : report.error().message);
  };
  std::printf("%zu MB in the tree, median of %d rounds\n", bytes / 1'000'000, rounds);
  print_row("floor: copy, SHA-256, flush",
            median_seconds(
                [&] {
                  std::filesystem::remove_all(copy);
                  std::filesystem::create_directory(copy);
                  flush(root);
                },
                [&] { copy_and_hash(state, copy); }),
            bytes);
  print_row("take: first snapshot", median_seconds(open_new_store, take), bytes);
  print_row("take: nothing changed", median_seconds([] {}, take), bytes);
  print_row("take: 1 of the large files changed",
            median_seconds(
                [&, seed = uint64_t{1000}]() mutable {
                  write_file(state + "/large0", noise(total_mib / 8 * mib, ++seed));
                },
                take),
            total_mib / 8 * mib);
  print_row("verify",
            median_seconds([] {},
                           [&] {
                             auto all = store->list();
                             auto report = verify_snapshots(*store, {all->back()});
                             require(report.has_value() && !report->damaged(), "verify");
                           }),
            bytes);
  print_row("restore",
            median_seconds(
                [&] {
                  std::filesystem::remove_all(out);
                  flush(root);
                },
                [&] {
                  const RestoreOptions to{.state_dir = out, .clock = &clock};
                  auto report = restore_latest(*store, to);
                  require(report.has_value(), report ? "" : report.error().message);
                }),
            bytes);
}

int run(int argc, char** argv) {
  const std::string base = argc > 1 ? argv[1] : std::filesystem::temp_directory_path().string();
  const std::string_view size = argc > 2 ? argv[2] : "200";
  size_t total_mib = 0;
  const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), total_mib);
  require(error == std::errc() && end == size.data() + size.size() && total_mib >= 8 &&
              total_mib <= 100'000,
          "usage: snapshot_bench [DIRECTORY] [MIB, 8 to 100000]");
  const std::string root = base + "/snapshot_bench-" + random_name();
  std::filesystem::create_directories(root);
  measure(root, total_mib);
  std::filesystem::remove_all(root);
  return 0;
}

}  // namespace
}  // namespace remora::checkpoint

int main(int argc, char** argv) { return remora::checkpoint::run(argc, argv); }
