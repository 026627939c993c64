{{/*
Reads the manifests as kustomize would: files of objects, and components with patches of RFC 6902. A list
of objects is carried in (dict "objects" LIST), for a template can only give text back.
*/}}

{{/* A manifest, for the namespace of this release. */}}
{{- define "remora.file" -}}
{{- $text := .root.Files.Get .file -}}
{{- if not $text }}{{ fail (printf "the chart has no %s" .file) }}{{ end -}}
{{- replace "remora-system" .root.Release.Namespace $text -}}
{{- end -}}

{{/* Adds every object of (dict "root" $ "all" ALL "file" FILE) to ALL. */}}
{{- define "remora.add" -}}
{{- range regexSplit "(?m)^---$" (include "remora.file" .) -1 -}}
{{- $object := fromYaml . -}}
{{- if $object.Error }}{{ fail (printf "%s: %s" $.file $object.Error) }}{{ end -}}
{{- if $object.kind }}{{ $_ := set $.all "objects" (append $.all.objects $object) }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* Adds the resources of the component (dict "root" $ "all" ALL "name" NAME), then does its patches. */}}
{{- define "remora.component" -}}
{{- $folder := printf "manifests/%s" .name -}}
{{- $text := include "remora.file" (dict "root" .root "file" (printf "%s/kustomization.yaml" $folder)) -}}
{{- $component := fromYaml $text -}}
{{- range $component.resources -}}
{{- if ne . "../crds" -}}
{{- include "remora.add" (dict "root" $.root "all" $.all "file" (printf "%s/%s" $folder .)) -}}
{{- else if $.root.Values.crds.install -}}
{{- include "remora.add" (dict "root" $.root "all" $.all "file" "manifests/crds/crds.yaml") -}}
{{- end -}}
{{- end -}}
{{- range $patch := $component.patches -}}
{{- $text := $patch.patch -}}
{{- if $patch.path -}}
{{- $text = include "remora.file" (dict "root" $.root "file" (printf "%s/%s" $folder $patch.path)) -}}
{{- end -}}
{{- range $object := $.all.objects -}}
{{- if and (eq $object.kind $patch.target.kind) (eq $object.metadata.name $patch.target.name) -}}
{{- range fromYamlArray $text -}}
{{- include "remora.patch" (dict "object" $object "step" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* One step of a patch: test (taken for passed: kustomize has looked), add, replace, remove. */}}
{{- define "remora.patch" -}}
{{- $names := list -}}
{{- range rest (splitList "/" .step.path) -}}
{{- $names = append $names (. | replace "~1" "/" | replace "~0" "~") -}}
{{- end -}}
{{- $parent := .object -}}
{{- $above := dict -}}
{{- $name := "" -}}
{{- range initial $names -}}
{{- $above = $parent -}}
{{- $name = . -}}
{{- if kindIs "slice" $parent }}{{ $parent = index $parent (int .) }}{{ else }}{{ $parent = index $parent . }}{{ end -}}
{{- end -}}
{{- $last := last $names -}}
{{- if eq .step.op "test" -}}
{{- else if and (kindIs "slice" $parent) (eq .step.op "add") (eq $last "-") -}}
{{- $_ := set $above $name (append $parent .step.value) -}}
{{- else if and (kindIs "slice" $parent) (eq .step.op "remove") -}}
{{- $kept := list -}}
{{- range $i, $each := $parent -}}
{{- if ne $i (int $last) }}{{ $kept = append $kept $each }}{{ end -}}
{{- end -}}
{{- $_ := set $above $name $kept -}}
{{- else if kindIs "slice" $parent -}}
{{- fail (printf "the chart can't do %s at %s" .step.op .step.path) -}}
{{- else if eq .step.op "remove" -}}
{{- $_ := unset $parent $last -}}
{{- else -}}
{{- $_ := set $parent $last .step.value -}}
{{- end -}}
{{- end -}}
