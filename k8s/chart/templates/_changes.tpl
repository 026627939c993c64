{{/*
What the values change. Each takes (dict "root" $ "object" OBJECT) and changes the object in place; kinds
without one are taken as they are.
*/}}

{{- define "remora.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "remora.change.Deployment" -}}
{{- $values := .root.Values -}}
{{- $spec := .object.spec -}}
{{- $_ := set $spec "replicas" $values.replicas -}}
{{- $pod := $spec.template.spec -}}
{{- $container := first $pod.containers -}}
{{- $image := include "remora.image" .root -}}
{{- $_ := set $container "image" $image -}}
{{- with $values.image.pullPolicy }}{{ $_ := set $container "imagePullPolicy" . }}{{ end -}}
{{- $args := list -}}
{{- range $container.args -}}
{{- $of_sidecar := printf "--image=%s" ($values.sidecarImage | default $image) -}}
{{- $args = append $args (hasPrefix "--image=" . | ternary $of_sidecar .) -}}
{{- end -}}
{{- $_ := set $container "args" (concat $args $values.extraArgs) -}}
{{- $_ := set $container "resources" $values.resources -}}
{{- range $key := list "imagePullSecrets" "nodeSelector" "tolerations" "affinity" "priorityClassName" -}}
{{- with index $values $key }}{{ $_ := set $pod $key . }}{{ end -}}
{{- end -}}
{{- $metadata := $spec.template.metadata -}}
{{- with $values.podAnnotations }}{{ $_ := set $metadata "annotations" . }}{{ end -}}
{{- $_ := set $metadata "labels" (merge $metadata.labels $values.podLabels) -}}
{{- end -}}

{{- define "remora.change.ServiceAccount" -}}
{{- with .root.Values.serviceAccountAnnotations }}{{ $_ := set $.object.metadata "annotations" . }}{{ end -}}
{{- end -}}

{{- define "remora.change.CustomResourceDefinition" -}}
{{- $_ := set .object.metadata "annotations" (dict "helm.sh/resource-policy" "keep") -}}
{{- end -}}

{{- define "remora.change.ServiceMonitor" -}}
{{- include "remora.labels.add" (dict "object" .object "labels" .root.Values.serviceMonitor.labels) -}}
{{- end -}}
{{- define "remora.change.PodMonitor" -}}
{{- include "remora.labels.add" (dict "object" .object "labels" .root.Values.serviceMonitor.labels) -}}
{{- end -}}
{{- define "remora.change.PrometheusRule" -}}
{{- include "remora.labels.add" (dict "object" .object "labels" .root.Values.prometheusRule.labels) -}}
{{- end -}}

{{- define "remora.labels.add" -}}
{{- $metadata := .object.metadata -}}
{{- $_ := set $metadata "labels" (merge (.labels | default dict) ($metadata.labels | default dict)) -}}
{{- end -}}

{{- define "remora.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}
