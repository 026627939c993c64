// One attempt of each kind of probe; see start_probe() in probes.h for the contract.
#pragma once

#include <memory>

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

}  // namespace remora
