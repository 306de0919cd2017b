{{- define "aligner.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* A name for each release, of at most 63 characters, as DNS has it. */}}
{{- define "aligner.fullname" -}}
{{- $name := include "aligner.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- default $full .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What selects pods: it can never change. */}}
{{- define "aligner.selectorLabels" -}}
app.kubernetes.io/name: {{ include "aligner.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "aligner.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "aligner.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: proxy
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "aligner.serviceAccountName" -}}
{{- default (.Values.serviceAccount.create | ternary (include "aligner.fullname" .) "default") .Values.serviceAccount.name }}
{{- end }}

{{- define "aligner.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "aligner.secretName" -}}
{{- default (include "aligner.fullname" .) .Values.keys.existingSecret }}
{{- end }}

{{- define "aligner.hasCheckpoint" -}}
{{- if or .Values.checkpoint.existingClaim .Values.checkpoint.image }}true{{ end }}
{{- end }}

{{- define "aligner.logsToFile" -}}
{{- if hasPrefix "/" .Values.log.database }}true{{ end }}
{{- end }}

{{/* The arguments of `aligner serve`, one a line; numbers as JSON writes them, not as 1e+07. */}}
{{- define "aligner.arguments" -}}
- serve
- --host=0.0.0.0
- --port=8080
- {{ printf "--upstream=%s" .Values.upstream | quote }}
- {{ printf "--aligner=%s" (default "/checkpoint" .Values.aligner) | quote }}
{{- with .Values.log }}
{{- if .database }}
- {{ printf "--log=%s" .database | quote }}
- {{ printf "--log-content=%s" .content | quote }}
{{- if .days }}
- {{ printf "--log-days=%s" (toJson .days) | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.options }}
{{- if kindIs "bool" $value }}
- {{ printf "--%s%s" ($value | ternary "" "no-") $name | quote }}
{{- else }}
{{- range (kindIs "slice" $value | ternary $value (list $value)) }}
- {{ printf "--%s=%s" $name (kindIs "string" . | ternary . (toJson .)) | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What a schema cannot say in words that help. */}}
{{- define "aligner.check" -}}
{{- $mounted := include "aligner.hasCheckpoint" . }}
{{- if not (or .Values.aligner $mounted) }}
{{- fail "which Aligner? Set checkpoint.existingClaim, checkpoint.image, or aligner" }}
{{- end }}
{{- if and .Values.checkpoint.existingClaim .Values.checkpoint.image }}
{{- fail "a checkpoint comes from checkpoint.existingClaim or from checkpoint.image, not from both" }}
{{- end }}
{{- if and .Values.aligner $mounted }}
{{- fail "a checkpoint is mounted: leave aligner out" }}
{{- end }}
{{- if not (or .Values.keys.existingSecret .Values.keys.apiKey) }}
{{- fail "beyond loopback clients need a key: set keys.existingSecret, or keys.apiKey" }}
{{- end }}
{{- if and .Values.keys.existingSecret (or .Values.keys.apiKey .Values.keys.upstreamKey) }}
{{- fail "keys come from keys.existingSecret or from values, not from both" }}
{{- end }}
{{- if lt (int .Values.terminationGracePeriodSeconds) (add .Values.secondsBeforeStop 45 | int) }}
{{- fail "terminationGracePeriodSeconds has to be at least secondsBeforeStop and 45 more: half a minute for what was begun, and some seconds for the engine and the log" }}
{{- end }}
{{- if include "aligner.logsToFile" . }}
{{- if not .Values.log.existingClaim }}
{{- fail "a SQLite file needs log.existingClaim: without it the log would go with its pod" }}
{{- end }}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1) }}
{{- fail "a SQLite file is for one pod: set replicaCount to 1, or log to PostgreSQL" }}
{{- end }}
{{- end }}
{{- end }}
