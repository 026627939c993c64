// The authorities that the system trusts. Blocks; meant for start and reload.
#pragma once

#include <cstddef>
#include <string>

#include "sidecar/base/error.h"

namespace remora::config {

// All authorities of a distribution take about 0.3 MiB.
inline constexpr size_t certificates_bytes_max = 8 << 20;

// As PEM: $SSL_CERT_FILE, else the file where distributions keep them. kNotFound names the places.
Result<std::string> system_certificates();

}  // namespace remora::config
