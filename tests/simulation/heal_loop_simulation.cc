// Runs the heal loop through many simulated lives and checks what must always hold.
//   heal_loop_simulation [--seeds N]   lives 1 to N; prints the seed of the first that breaks
//   heal_loop_simulation --seed N      only that one, with a trace
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "sidecar/base/log.h"
#include "tests/simulation/heal_world.h"

int main(int argc, char** argv) {
  uint64_t first = 1;
  uint64_t last = 10'000;
  bool trace = false;
  if (argc == 3 && std::strcmp(argv[1], "--seeds") == 0) {
    last = std::strtoull(argv[2], nullptr, 10);
  } else if (argc == 3 && std::strcmp(argv[1], "--seed") == 0) {
    first = last = std::strtoull(argv[2], nullptr, 10);
    trace = true;
  } else if (argc != 1) {
    std::fprintf(stderr, "usage: %s [--seeds N | --seed N]\n", argv[0]);
    return 2;
  }
  remora::set_log_level(remora::LogLevel::kOff);
  for (uint64_t seed = first; seed <= last; ++seed) {
    const std::string failure = remora::simulation::HealWorld(seed, trace).run();
    if (!failure.empty()) {
      std::printf("FAILED %s\nreproduce: heal_loop_simulation --seed %" PRIu64 "\n",
                  failure.c_str(), seed);
      return 1;
    }
  }
  std::printf("%" PRIu64 " lives, every check held\n", last - first + 1);
  return 0;
}
