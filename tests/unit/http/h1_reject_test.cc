// What the HTTP/1.1 codec must refuse: each input is fed whole and byte by byte, in both roles.
#include <gtest/gtest.h>

#include "sidecar/http/h1_codec.h"
#include "tests/unit/http/recording_events.h"

namespace remora::http {
namespace {

struct Case {
  const char* name;
  std::string input;
};

void PrintTo(const Case& c, std::ostream* os) { *os << c.name; }

Result<void> feed(Codec& codec, std::string_view input, size_t piece) {
  for (size_t at = 0; at < input.size(); at += piece) {
    if (auto fed = codec.receive(as_bytes(input.substr(at, piece))); !fed) return fed;
  }
  return {};
}

const std::string kPost = "POST /a HTTP/1.1\r\nHost: x\r\n";
const std::string kGet = "GET /a HTTP/1.1\r\n";
const std::string kChunked = kPost + "Transfer-Encoding: chunked\r\n\r\n";

class RefusedRequest : public testing::TestWithParam<Case> {};

TEST_P(RefusedRequest, IsAProtocolErrorHoweverItIsCutUp) {
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{1} << 20}) {
    RecordingEvents events;
    const CodecLimits limits;
    const auto codec = make_h1_codec(Role::kServer, events, limits);
    const auto fed = feed(*codec, GetParam().input, piece);
    ASSERT_FALSE(fed) << "piece " << piece << "\n" << events.joined();
    EXPECT_EQ(fed.error().code, ErrorCode::kProtocol) << fed.error().message;
    EXPECT_TRUE(codec->close_after_flush());
    EXPECT_TRUE(codec->idle());
    for (const std::string& line : events.lines) EXPECT_FALSE(line.ends_with(" end")) << line;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Framing, RefusedRequest,
    testing::Values(
        Case{"both_lengths",
             kPost + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        Case{"both_lengths_reversed",
             kPost + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"},
        Case{"length_empty", kPost + "Content-Length:\r\n\r\n"},
        Case{"length_blank", kPost + "Content-Length:  \r\n\r\n"},
        Case{"length_comma", kPost + "Content-Length: 0,\r\n\r\n"},
        Case{"length_plus", kPost + "Content-Length: +5\r\n\r\nhello"},
        Case{"length_minus", kPost + "Content-Length: -5\r\n\r\nhello"},
        Case{"length_list", kPost + "Content-Length: 5, 6\r\n\r\nhello"},
        Case{"length_hex", kPost + "Content-Length: 0x5\r\n\r\nhello"},
        Case{"length_inner_space", kPost + "Content-Length: 5 5\r\n\r\nhello"},
        Case{"length_overflow", kPost + "Content-Length: 18446744073709551617\r\n\r\nhello"},
        Case{"length_above_int64", kPost + "Content-Length: 9223372036854775808\r\n\r\nhello"},
        Case{"length_twice_differing",
             kPost + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"},
        Case{"length_and_padded_chunked",
             kPost + "Content-Length: 5\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n"},
        Case{"coding_tab_in_front", kPost + "Transfer-Encoding: \tchunked\r\n\r\n0\r\n\r\n"},
        Case{"coding_tab_behind", kPost + "Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n"},
        Case{"coding_unknown", kPost + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
        Case{"coding_identity", kPost + "Transfer-Encoding: identity\r\n\r\n"},
        Case{"coding_empty", kPost + "Transfer-Encoding:\r\n\r\n"},
        Case{"coding_quoted", kPost + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"},
        Case{"coding_vertical_tab", kPost + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n"},
        Case{"coding_not_last", kPost + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"},
        Case{"coding_in_front", kPost + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
        Case{"coding_twice",
             kPost + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        Case{"coding_in_http10",
             "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        Case{"connect_with_length",
             "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 3\r\n\r\nabc"}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Chunks, RefusedRequest,
    testing::Values(Case{"size_lf_only", kChunked + "5\nhello\r\n0\r\n\r\n"},
                    Case{"size_cr_only", kChunked + "5\r\rhello\r\n0\r\n\r\n"},
                    Case{"size_space", kChunked + "5 \r\nhello\r\n0\r\n\r\n"},
                    Case{"size_prefix", kChunked + "0x5\r\nhello\r\n0\r\n\r\n"},
                    Case{"size_sign", kChunked + "+5\r\nhello\r\n0\r\n\r\n"},
                    Case{"size_empty", kChunked + "\r\nhello\r\n0\r\n\r\n"},
                    Case{"size_overflow", kChunked + "10000000000000005\r\nhello\r\n0\r\n\r\n"},
                    Case{"data_too_long", kChunked + "5\r\nhelloX\r\n0\r\n\r\n"},
                    Case{"data_end_wrong", kChunked + "5\r\nhelloXX0\r\n\r\n"},
                    Case{"data_lf_only", kChunked + "5\r\nhello\n0\r\n\r\n"},
                    Case{"extension_lf", kChunked + "5;a\nb\r\nhello\r\n0\r\n\r\n"},
                    Case{"last_chunk_lf", kChunked + "0\n\r\n"},
                    Case{"end_lf_only", kChunked + "0\r\n\n"},
                    Case{"trailer_lf_only", kChunked + "0\r\nA: b\n\r\n"},
                    Case{"trailer_cr_only", kChunked + "0\r\nA: b\r\n\rX\r\n\r\n"},
                    Case{"trailer_folded", kChunked + "0\r\nA: b\r\n c\r\n\r\n"},
                    Case{"trailer_control", kChunked + "0\r\nA: b\x01\r\n\r\n"},
                    Case{"trailer_length", kChunked + "0\r\nContent-Length: 5\r\n\r\n"},
                    Case{"trailer_coding", kChunked + "0\r\nTransfer-Encoding: chunked\r\n\r\n"},
                    Case{"trailer_host", kChunked + "0\r\nHost: b\r\n\r\n"},
                    Case{"trailer_begins_with_space", kChunked + "0\r\n A: b\r\n\r\n"}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Lines, RefusedRequest,
    testing::Values(Case{"start_line_lf", "GET /a HTTP/1.1\nHost: x\r\n\r\n"},
                    Case{"field_lf", kGet + "Host: x\nA: b\r\n\r\n"},
                    Case{"all_lf", "GET /a HTTP/1.1\nHost: x\n\n"},
                    Case{"end_lf", kGet + "Host: x\r\n\n"},
                    Case{"end_cr", kGet + "Host: x\r\n\rX: y\r\n\r\n"},
                    Case{"field_cr", kGet + "Host: x\r\nA: b\rC: d\r\n\r\n"},
                    Case{"folded", kGet + "Host: x\r\nA: b\r\n c\r\n\r\n"},
                    Case{"folded_tab", kGet + "Host: x\r\nA: b\r\n\tc\r\n\r\n"},
                    Case{"folded_first", kGet + " Host: x\r\n\r\n"},
                    Case{"folded_length", kPost + "Content-Length: 5\r\n 5\r\n\r\nhello"},
                    Case{"nul", kGet + std::string("Host: x\r\nA: b\0c\r\n\r\n", 19)},
                    Case{"control", kGet + "Host: x\r\nA: b\x01\r\n\r\n"},
                    Case{"delete", kGet + "Host: x\r\nA: b\x7f\r\n\r\n"},
                    Case{"name_space", kGet + "Host: x\r\nA : b\r\n\r\n"},
                    Case{"name_space_length", kPost + "Content-Length : 5\r\n\r\nhello"},
                    Case{"name_empty", kGet + "Host: x\r\n: b\r\n\r\n"},
                    Case{"name_missing_colon", kGet + "Host: x\r\nAbc\r\n\r\n"},
                    Case{"name_high_bit", kGet + "Host: x\r\n\x80: b\r\n\r\n"},
                    Case{"many_blank_lines", "\r\n\r\n\r\n\r\n\r\n" + kGet + "Host: x\r\n\r\n"},
                    Case{"blank_lf_lines", "\n\n" + kGet + "Host: x\r\n\r\n"}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    StartLine, RefusedRequest,
    testing::Values(Case{"host_missing", kGet + "\r\n"},
                    Case{"host_twice", kGet + "Host: x\r\nHost: x\r\n\r\n"},
                    Case{"host_with_path", kGet + "Host: x/y\r\n\r\n"},
                    Case{"host_with_user", kGet + "Host: u@x\r\n\r\n"},
                    Case{"host_with_space", kGet + "Host: x y\r\n\r\n"},
                    Case{"two_spaces", "GET  /a HTTP/1.1\r\nHost: x\r\n\r\n"},
                    Case{"space_behind", "GET /a HTTP/1.1 \r\nHost: x\r\n\r\n"},
                    Case{"space_in_front", " GET /a HTTP/1.1\r\nHost: x\r\n\r\n"},
                    Case{"tab", "GET\t/a HTTP/1.1\r\nHost: x\r\n\r\n"},
                    Case{"http09", "GET /a\r\nHost: x\r\n\r\n"},
                    Case{"http20", "GET /a HTTP/2.0\r\nHost: x\r\n\r\n"},
                    Case{"http12", "GET /a HTTP/1.2\r\nHost: x\r\n\r\n"},
                    Case{"lower_case_version", "GET /a http/1.1\r\nHost: x\r\n\r\n"},
                    Case{"rtsp", "OPTIONS * RTSP/1.0\r\nHost: x\r\n\r\n"},
                    Case{"preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
                    Case{"method_not_a_token", "GE(T /a HTTP/1.1\r\nHost: x\r\n\r\n"},
                    Case{"target_relative", "GET a HTTP/1.1\r\nHost: x\r\n\r\n"},
                    Case{"target_star", "GET * HTTP/1.1\r\nHost: x\r\n\r\n"},
                    Case{"target_fragment", "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n"},
                    Case{"target_high_bit", "GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n"},
                    Case{"target_control", "GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n"},
                    Case{"target_user", "GET http://u@x/ HTTP/1.1\r\nHost: x\r\n\r\n"},
                    Case{"target_no_host", "GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n"},
                    Case{"target_scheme", "GET ftp://x/a HTTP/1.1\r\nHost: x\r\n\r\n"},
                    Case{"connect_no_port", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"},
                    Case{"connect_path", "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n"}),
    [](const auto& test) { return test.param.name; });

class RefusedResponse : public testing::TestWithParam<Case> {};

TEST_P(RefusedResponse, IsAProtocolErrorHoweverItIsCutUp) {
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{1} << 20}) {
    RecordingEvents events;
    const CodecLimits limits;
    const auto codec = make_h1_codec(Role::kClient, events, limits);
    RequestHead request;
    request.method = "GET";
    request.authority = "x";
    request.path = "/";
    ASSERT_TRUE(codec->send_request(request, true));
    const auto fed = feed(*codec, GetParam().input, piece);
    ASSERT_FALSE(fed) << "piece " << piece << "\n" << events.joined();
    EXPECT_EQ(fed.error().code, ErrorCode::kProtocol) << fed.error().message;
    EXPECT_EQ(fed.error().source, ErrorSource::kUpstream);
    EXPECT_TRUE(codec->close_after_flush());
    EXPECT_FALSE(codec->can_open());
    ASSERT_FALSE(events.lines.empty());
    EXPECT_EQ(events.lines.back(), "1 error protocol");
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, RefusedResponse,
    testing::Values(
        Case{"both_lengths",
             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"},
        Case{"coding_gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"},
        Case{"coding_http10", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
        Case{"length_list", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello"},
        Case{"length_empty", "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n"},
        Case{"bare_lf", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"},
        Case{"folded", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"},
        Case{"control_in_reason", "HTTP/1.1 200 O\x01K\r\n\r\n"},
        Case{"cr_in_reason", "HTTP/1.1 200 O\rK\r\n\r\n"},
        Case{"status_two_digits", "HTTP/1.1 20 OK\r\n\r\n"},
        Case{"status_four_digits", "HTTP/1.1 2000 OK\r\n\r\n"},
        Case{"status_below_100", "HTTP/1.1 099 OK\r\n\r\n"},
        Case{"status_above_599", "HTTP/1.1 600 OK\r\n\r\n"},
        Case{"status_signed", "HTTP/1.1 +20 OK\r\n\r\n"},
        Case{"two_spaces", "HTTP/1.1  200 OK\r\n\r\n"}, Case{"icy", "ICY 200 OK\r\n\r\n"},
        Case{"blank_line_first", "\r\nHTTP/1.1 200 OK\r\n\r\n"},
        Case{"unasked_upgrade",
             "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace remora::http
