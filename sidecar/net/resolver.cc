#include "sidecar/net/resolver.h"

#include <utility>

#include <event2/dns.h>
#include <event2/util.h>
#include <netinet/in.h>

namespace remora {
namespace {

struct DnsDeleter {
  // Questions that are still open are answered (EVUTIL_EAI_CANCEL), so that nothing of them stays.
  void operator()(evdns_base* base) const { evdns_base_free(base, /*fail_requests=*/1); }
};
using DnsBase = std::unique_ptr<evdns_base, DnsDeleter>;
using AddressList = CHandle<evutil_addrinfo, evutil_freeaddrinfo>;

class DnsLookup final : public Lookup {
 public:
  DnsLookup(Loop& loop, std::string host, Resolver::Done done)
      : loop_(loop), host_(std::move(host)), done_(std::move(done)) {}
  DnsLookup(const DnsLookup&) = delete;
  DnsLookup& operator=(const DnsLookup&) = delete;
  ~DnsLookup() override {
    // libevent calls back once more, with the handle that says nobody is there.
    if (pending_ != nullptr) *pending_ = nullptr;
    if (request_ != nullptr) evdns_getaddrinfo_cancel(request_);
  }

  void begin(evdns_base* base, uint16_t port) {
    evutil_addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_protocol = IPPROTO_TCP;
    auto pending = std::make_unique<DnsLookup*>(this);
    pending_ = pending.get();
    // It may call back from inside: then there is no request, and pending_ is gone.
    evdns_getaddrinfo_request* const request =
        evdns_getaddrinfo(base, host_.c_str(), std::to_string(port).c_str(), &hints, on_answer,
                          static_cast<void*>(pending.release()));
    if (pending_ != nullptr) request_ = request;
  }

 private:
  static void on_answer(int error, evutil_addrinfo* list, void* context) {
    const std::unique_ptr<DnsLookup*> pending(static_cast<DnsLookup**>(context));
    const AddressList addresses(list);
    DnsLookup* const self = *pending;
    if (self == nullptr) return;
    self->pending_ = nullptr;
    self->request_ = nullptr;
    self->answer(error, addresses.get());
  }

  void answer(int error, const evutil_addrinfo* list) {
    std::vector<SocketAddress> found;
    for (; list != nullptr && found.size() < resolved_addresses_max; list = list->ai_next) {
      found.emplace_back(list->ai_addr, static_cast<socklen_t>(list->ai_addrlen));
    }
    timer_ = loop_.add_timer({}, [this, error, found = std::move(found)]() mutable {
      Resolver::Done done = std::move(done_);
      if (!found.empty()) return done(std::move(found));
      const bool no_such_name = error == EVUTIL_EAI_NONAME || error == EVUTIL_EAI_NODATA;
      done(make_error(no_such_name ? ErrorCode::kNotFound : ErrorCode::kUnavailable,
                      ErrorSource::kUpstream,
                      "look up " + host_ + ": " + evutil_gai_strerror(error), !no_such_name));
    });
  }

  Loop& loop_;
  const std::string host_;
  Resolver::Done done_;
  DnsLookup** pending_ = nullptr;  // owned by libevent's callback
  evdns_getaddrinfo_request* request_ = nullptr;
  Subscription timer_;
};

class DnsResolver final : public Resolver {
 public:
  DnsResolver(EventLoop& loop, DnsBase base) : loop_(loop), base_(std::move(base)) {}

  std::unique_ptr<Lookup> resolve(const std::string& host, uint16_t port, Done done) override {
    auto lookup = std::make_unique<DnsLookup>(loop_, host, std::move(done));
    lookup->begin(base_.get(), port);
    return lookup;
  }

 private:
  EventLoop& loop_;
  DnsBase base_;
};

}  // namespace

Result<std::unique_ptr<Resolver>> Resolver::create(EventLoop& loop) {
  // Without it, a loop with nothing to do but wait for signals would not end.
  DnsBase base(evdns_base_new(loop.base(), EVDNS_BASE_DISABLE_WHEN_INACTIVE));
  if (!base) {
    return make_error(ErrorCode::kIo, ErrorSource::kInternal, "make a resolver");
  }
  // 0: read. Without the file, or without a server in it, libevent asks 127.0.0.1, as others do.
  evdns_base_resolv_conf_parse(base.get(), DNS_OPTIONS_ALL, "/etc/resolv.conf");
  return std::make_unique<DnsResolver>(loop, std::move(base));
}

}  // namespace remora
