#include "filters/access_log/access_log.h"

#include "sidecar/base/log.h"

namespace remora {

void AccessLogFilter::on_end(FilterContext& context) {
  const ExchangeInfo& info = context.info();
  const http::RequestHead& request = context.request();
  log_info("request", {{"listener", info.listener},
                       {"peer", info.peer},
                       {"method", request.method},
                       // Queries carry tokens often enough to be left out.
                       {"path", request.path.substr(0, request.path.find('?'))},
                       {"status", info.status},
                       {"problem", http::problem_info(info.problem).name},
                       {"complete", info.complete},
                       {"request_bytes", info.request_body_bytes},
                       {"response_bytes", info.response_body_bytes},
                       {"duration_s", to_seconds(info.ended_at - info.began_at)},
                       {"held_s", to_seconds(info.held)},
                       {"replays", info.replays}});
}

}  // namespace remora
