// bench_load: measures a server and prints one JSON object.
//
//   bench_load run   --port P [--address A] [--connections N] [--requests R] [--rate PER_SECOND]
//                    [--warmup W] [--path /] [--cpu-pid PID]...
//   bench_load start --port P [--cpu N] -- COMMAND...   exec to the first 200, in milliseconds
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <sys/prctl.h>

#include "benchmarks/cpu_time.h"
#include "benchmarks/load_client.h"
#include "benchmarks/start_time.h"

namespace remora::bench {
namespace {

struct RunOptions {
  LoadPlan plan;
  uint64_t warmup = 0;
  std::vector<int> cpu_pids;
};

int fail(const Error& error) {
  fmt::print(stderr, "bench_load: {}\n", error.message);
  return 1;
}

int run_load(const RunOptions& options) {
  // The default slack of 50 µs would be added to every scheduled request.
  ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  const SystemClock clock;
  LoadClient client(clock, options.plan);
  if (const auto connected = client.connect(); !connected) return fail(connected.error());
  if (options.warmup > 0) {
    if (const auto warm = client.run(options.warmup, 0); !warm) return fail(warm.error());
  }
  const auto before = cpu_time(options.cpu_pids);
  if (!before) return fail(before.error());
  const auto result = client.run(options.plan.requests, options.plan.rate);
  if (!result) return fail(result.error());
  const auto after = cpu_time(options.cpu_pids);
  if (!after) return fail(after.error());
  const LoadResult& load = **result;
  fmt::print(
      "{{\"requests\":{},\"errors\":{},\"seconds\":{:.6f},\"cpu_ns\":{},\"p50_ns\":{},"
      "\"p99_ns\":{},\"p999_ns\":{},\"max_ns\":{}}}\n",
      options.plan.requests, load.errors, load.seconds, (*after - *before).count(),
      load.latency.quantile_ns(0.5), load.latency.quantile_ns(0.99),
      load.latency.quantile_ns(0.999), load.latency.max_ns());
  return 0;
}

int run_start(const StartPlan& plan) {
  const SystemClock clock;
  const auto elapsed = time_to_first_reply(clock, plan);
  if (!elapsed) return fail(elapsed.error());
  fmt::print("{{\"start_ms\":{:.3f}}}\n", to_seconds(*elapsed) * 1000);
  return 0;
}

int run(int argc, char** argv) {
  CLI::App app{"Load generator for benchmarks"};
  app.require_subcommand(1);
  RunOptions options;
  CLI::App* load = app.add_subcommand("run", "send requests and report latency and CPU");
  load->add_option("--address", options.plan.address, "IPv4; default: the loopback address");
  load->add_option("--port", options.plan.port)->required();
  load->add_option("--path", options.plan.path);
  load->add_option("--connections", options.plan.connections)->check(CLI::Range(1, 10'000));
  load->add_option("--requests", options.plan.requests)->check(CLI::PositiveNumber);
  load->add_option("--rate", options.plan.rate, "per second; 0: as fast as replies come")
      ->check(CLI::NonNegativeNumber);
  load->add_option("--warmup", options.warmup, "requests before the measured ones");
  load->add_option("--cpu-pid", options.cpu_pids, "whose CPU time to report");

  StartPlan start_plan;
  CLI::App* start = app.add_subcommand("start", "time from exec to the first 200");
  start->add_option("--port", start_plan.port)->required();
  start->add_option("--cpu", start_plan.cpu, "pin the command to this core");
  start->add_option("command", start_plan.command)->required();
  CLI11_PARSE(app, argc, argv);
  return *load ? run_load(options) : run_start(start_plan);
}

}  // namespace
}  // namespace remora::bench

int main(int argc, char** argv) { return remora::bench::run(argc, argv); }
