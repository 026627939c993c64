#include "config/system_certificates.h"

#include <array>
#include <cstdlib>
#include <utility>

#include "config/read_file.h"

namespace remora::config {
namespace {

constexpr std::array<const char*, 4> certificate_files = {
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem"};

}  // namespace

Result<std::string> system_certificates() {
  if (const char* const own = std::getenv("SSL_CERT_FILE"); own != nullptr) {
    return read_file(own, certificates_bytes_max);
  }
  std::string places;
  for (const char* const file : certificate_files) {
    Result<std::string> pem = read_file(file, certificates_bytes_max);
    if (pem || pem.error().code != ErrorCode::kNotFound) return pem;
    places.append(places.empty() ? "" : ", ").append(file);
  }
  return make_error(ErrorCode::kNotFound, ErrorSource::kConfig,
                    "no trusted certificates at " + places + "; set SSL_CERT_FILE");
}

}  // namespace remora::config
