#include "sidecar/intercept/nft_text.h"

#include <linux/netfilter.h>

namespace remora::intercept {
namespace {

const char* hook_name(uint32_t hook) {
  return hook == NF_INET_PRE_ROUTING ? "prerouting" : "output";
}

}  // namespace

std::string to_nft_text(const Ruleset& ruleset) {
  const std::string table = "table inet " + std::string(table_name);
  // Adding it first makes deleting it succeed when there is none; nft sends all as one transaction.
  std::string text = table + "\ndelete " + table + "\n" + table + " {\n";
  for (const Chain& chain : ruleset.chains) {
    text.append("\tchain ").append(chain.spec.name).append(" {\n\t\ttype ");
    text.append(chain.spec.type).append(" hook ").append(hook_name(chain.spec.hook));
    text.append(" priority ").append(std::to_string(chain.spec.priority));
    text += "; policy accept;\n";
    for (const Rule& rule : chain.rules) {
      text.append("\t\t").append(rule.text).append(" comment \"").append(rule.comment);
      text += "\"\n";
    }
    text += "\t}\n";
  }
  return text + "}\n";
}

}  // namespace remora::intercept
