// Credentials from a program that a kubeconfig names (client.authentication.k8s.io): it is run and
// prints an ExecCredential.
#pragma once

#include <string_view>

#include "k8s/kubeconfig/kubeconfig.h"

namespace remora::k8s {

inline constexpr size_t exec_output_bytes_max = 1 << 20;
// It may ask a person for something.
inline constexpr int exec_answer_ms_max = 120'000;

// Runs it, with our standard input and error, and puts what it prints into server. Blocks. Errors:
// kNotFound it isn't there, kTimeout, kInvalidArgument it failed or printed no credentials.
Result<void> add_exec_credential(const ExecPlugin& plugin, ApiServer& server);

// What it has printed. Pure. No part of the text gets into an error.
Result<void> read_exec_credential(std::string_view text, ApiServer& server);

}  // namespace remora::k8s
