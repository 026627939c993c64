// One attempt of each kind of probe; see start_probe() in probes.h for the contract.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "sidecar/health/probes.h"

namespace remora {

std::unique_ptr<ProbeAttempt> start_attempt(Loop& loop, const HttpProbe& probe, Duration timeout,
                                            ProbeDone done);
std::unique_ptr<ProbeAttempt> start_attempt(Loop& loop, const TcpProbe& probe, Duration timeout,
                                            ProbeDone done);
std::unique_ptr<ProbeAttempt> start_attempt(Loop& loop, const ExecProbe& probe, Duration timeout,
                                            ProbeDone done);
std::unique_ptr<ProbeAttempt> start_attempt(Loop& loop, const GrpcProbe& probe, Duration timeout,
                                            ProbeDone done);

// The begin of what the agent has answered, as one line for a reason: at most
// probe_reason_bytes_max, no control characters, no half of a UTF-8 character at the end.
std::string answer_excerpt(std::string_view answer);

}  // namespace remora
