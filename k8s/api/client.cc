#include "k8s/api/client.h"

#include <utility>

#include "k8s/api/exchange.h"
#include "k8s/api/pool.h"

namespace remora::k8s {

namespace {

class PooledClient final : public ApiClient {
 public:
  PooledClient(Loop& loop, ApiServer server, std::shared_ptr<const TlsContext> tls)
      : loop_(loop), pool_(loop, std::move(server), std::move(tls)) {}

  std::unique_ptr<ApiCall> call(ApiRequest request, Done done) override {
    return enter(std::move(request), nullptr, std::move(done));
  }
  std::unique_ptr<ApiCall> stream(ApiRequest request, Data data, Done done) override {
    return enter(std::move(request), std::make_shared<Data>(std::move(data)), std::move(done));
  }
  ApiClientStats stats() const override { return pool_.stats(); }

 private:
  std::unique_ptr<ApiCall> enter(ApiRequest request, std::shared_ptr<Data> data, Done done) {
    auto exchange = std::make_unique<Exchange>(loop_, pool_, std::move(request), std::move(data),
                                               std::move(done));
    pool_.enter(*exchange);
    return exchange;
  }

  Loop& loop_;
  Pool pool_;
};

}  // namespace

Result<std::unique_ptr<ApiClient>> ApiClient::create(Loop& loop, ApiServer server) {
  std::shared_ptr<const TlsContext> tls;
  if (server.tls && !server.connect) {
    TlsClientOptions options;
    options.trusted_pem = server.trusted_pem;
    options.protocols = {"h2", "http/1.1"};
    options.certificate_pem = server.certificate_pem;
    options.private_key_pem = server.private_key_pem;
    auto context = make_tls_client_context(options);
    if (!context) return std::unexpected(std::move(context.error()));
    tls = std::move(*context);
  }
  return std::make_unique<PooledClient>(loop, std::move(server), std::move(tls));
}

}  // namespace remora::k8s
