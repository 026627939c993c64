#include "sidecar/http/problem.h"

#include <array>
#include <cstddef>

namespace remora::http {
namespace {

// In the order of the enumeration.
constexpr std::array<ProblemInfo, 15> kProblems{{
    {200, "none", "No problem.", 0, 0},
    {400, "bad-request", "The request breaks the HTTP protocol.", 0, 13},
    {408, "request-timeout", "The request did not arrive in time.", 0, 4},
    {413, "body-too-large", "The request body is larger than the limit.", 0, 8},
    {414, "url-too-long", "The request target is longer than the limit.", 0, 8},
    {431, "headers-too-large", "The request header fields are larger than the limit.", 0, 8},
    {502, "outcome-unknown",
     "The agent died while it had this request. Whether it took effect is unknown, so it was not "
     "sent again.",
     0, 2},
    {502, "replays-exhausted",
     "The agent died each time it was given this request. It is not sent again.", 0, 13},
    {502, "upstream-protocol", "The agent's response breaks the HTTP protocol.", 0, 13},
    {503, "overloaded", "Too many requests are in flight. This one was not sent to the agent.", 1,
     14},
    {503, "agent-unavailable",
     "The agent did not become ready in time. The request was not sent to it.", 5, 14},
    {503, "draining", "The proxy is shutting down. The request was not sent to the agent.", 1, 14},
    {504, "deadline-exceeded", "The agent did not begin to answer in time.", 0, 4},
    {502, "server-unreachable", "No connection to the server. The request was not sent.", 0, 14},
    {502, "server-lost",
     "The server's connection broke before it answered. Whether the request took effect is "
     "unknown.",
     0, 14},
}};

}  // namespace

const ProblemInfo& problem_info(Problem problem) { return kProblems[static_cast<size_t>(problem)]; }

}  // namespace remora::http
