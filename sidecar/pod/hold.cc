#include "sidecar/pod/hold.h"

#include <CLI/CLI.hpp>
#include <csignal>

#include <sys/wait.h>

namespace remora {
namespace {

int hold() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signo : {SIGTERM, SIGINT, SIGCHLD}) ::sigaddset(&signals, signo);
  // Blocked signals wait: none is lost between here and sigwait.
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  int signo = SIGCHLD;
  while (signo == SIGCHLD) {
    // One SIGCHLD may stand for several children, and some may have ended before it was blocked.
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    ::sigwait(&signals, &signo);
  }
  return 0;
}

}  // namespace

void add_hold_command(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "hold",
      "Keep the namespaces that an agent and its sidecar share (Compose); does nothing else");
  command->callback([&exit_code] { exit_code = hold(); });
}

}  // namespace remora
