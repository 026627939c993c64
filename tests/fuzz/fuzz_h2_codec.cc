#include "tests/fuzz/codec_driver.h"

// The server role begins behind the connection preface, so that the fuzzer need not find it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  remora::http::CodecDriver driver(remora::http::make_h2_codec, data[0]);
  std::string input;
  if ((data[0] & 1) == 0) input = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  input.append(reinterpret_cast<const char*>(data + 2), size - 2);
  driver.run(remora::as_bytes(input), data[1]);
  return 0;
}
