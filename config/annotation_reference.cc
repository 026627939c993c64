#include "config/annotation_reference.h"

#include <string_view>

#include <google/protobuf/descriptor.h>

#include "config/annotations.h"
#include "config/reference_text.h"

namespace remora::config {
namespace {

constexpr std::string_view preamble = R"(# Annotations

<!-- Generated from config/remora.proto and config/pod.proto by `remora inject --annotations`. Change
     it there. -->

What a pod may set about Remora, each as `remora.dev/NAME: "VALUE"` under `metadata.annotations` of
the pod (of a workload: of its pod template). All of it is checked when the pod is admitted, and
before that by `remora inject -f FILE`; each answer names the annotation, what is wrong with its
value and what to write instead. An unknown `remora.dev/` name is an error.

- **Values** are those of the configuration file (docs/configuration.md): a duration is `30s` or
  `1m30s`, a size `64KiB`. Kubernetes wants every value in quotes.
- **Lists** are written `a, b`, or as YAML: `["a", "b"]`.
- **Sections**, such as probes, are YAML or JSON in the value:
  `remora.dev/readiness-probe: '{"httpGet": {"path": "/healthz"}, "periodSeconds": 2}'`.
- **Several agents in one pod**: a name may end in `.CONTAINER`, and then holds for that agent only:
  `remora.dev/hang-window.planner: "2m"`. It wins over the name without an ending. Names marked
  *pod* take no ending.
- **Changes in a running pod** are taken within a second of the kubelet's writing them to the pod's
  files (up to a minute and a half after the change), as are those of the ConfigMap. One that is
  wrong is refused as a whole: the last good configuration stays in force, also across a restart of
  the sidecar, and `remora status`, the log and `remora_config_last_reload_good` say so. What only
  another start can change (ports, directories, images, volumes) is named there, too; for names of
  the section "The pod" make the pod anew.
- An annotation wins over the configuration file from `remora.dev/config-map`, the file over what a
  `HealingPolicy` sets for its pods, and that over the defaults.
- `remora.dev/injected` is written by the injection. It marks an injected pod and tells the sidecar
  what it can't see otherwise: the agents' ports and original probes. `remora.dev/policy` records which annotations are a policy's,
  not the pod's own. Don't write them yourself.

| Interception | needs | what passes Remora |
|---|---|---|
| `transparent` | an init container that runs as root with `NET_ADMIN`, so a namespace at the Pod Security level `privileged` | all TCP connections to and from the pod but the excluded ones |
| `explicit` | nothing: runs at the level `restricted` | callers that use the sidecar's ports: name as the Service's `targetPort` `remora-inbound` for the first port of the first agent and `remora-PORT` for each other PORT of an agent; and calls that honour `HTTP_PROXY` |
| `none` | nothing | nothing; probes and processes are watched all the same |

In a namespace at `baseline` or `restricted` a pod that does not choose gets `explicit`.

)";

class Writer {
 public:
  std::string write() {
    out_ = preamble;
    std::string section;
    for (const AnnotationEntry& entry : annotation_vocabulary()) {
      const std::string here = section_of(entry);
      if (here != section) begin_section(here);
      section = here;
      row(entry);
    }
    return std::move(out_);
  }

 private:
  static std::string section_of(const AnnotationEntry& entry) {
    if (entry.pod_only) return "The pod";
    const FieldDescriptor* top =
        Config::descriptor()->FindFieldByCamelcaseName(entry.path.substr(0, entry.path.find('.')));
    const bool is_probe = top == entry.field;
    return is_probe ? "Probes of Remora's own" : key_of(*top);
  }

  void begin_section(const std::string& title) {
    if (out_.back() == '\n' && !out_.ends_with("\n\n")) out_ += '\n';
    out_.append("## ").append(title).append("\n\n");
    out_ +=
        "| Annotation | Type | Default | Allowed | Key | Meaning |\n"
        "|---|---|---|---|---|---|\n";
  }

  void row(const AnnotationEntry& entry) {
    const FieldDescriptor& field = *entry.field;
    out_.append("| ").append(code_text(std::string(annotation_prefix) + entry.name));
    if (rules_of(field).pod_wide()) out_ += " *pod*";
    out_.append(" | ").append(type_text(field));
    out_.append(" | ").append(table_cell(default_text(field)));
    out_.append(" | ").append(table_cell(allowed_text(field)));
    out_.append(" | ").append(entry.pod_only ? std::string() : code_text(entry.path));
    out_.append(" | ").append(table_cell(rules_of(field).help())).append(" |\n");
  }

  std::string out_;
};

}  // namespace

std::string render_annotation_reference() { return Writer().write(); }

}  // namespace remora::config
