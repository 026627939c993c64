#include "tests/fuzz/codec_driver.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  remora::http::CodecDriver driver(remora::http::make_h1_codec, data[0]);
  driver.run({data + 2, size - 2}, data[1]);
  return 0;
}
