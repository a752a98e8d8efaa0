{{/* Secrets that are mounted as folders below /etc/messenger-connector: folder to Secret. As folders, so that a change
     of the Secret reaches the pod. */}}
{{- define "messenger-connector.files" -}}
{{- with .Values.pages.existingSecret }}
pages: {{ . }}
{{- end }}
{{- with .Values.page.appSecret.existingSecret }}
app-secret: {{ . }}
{{- end }}
{{- with .Values.callers.existingSecret }}
callers: {{ . }}
{{- end }}
{{- with .Values.tls.existingSecret }}
tls: {{ . }}
{{- end }}
{{- with .Values.tls.clientCa.existingSecret }}
client-ca: {{ . }}
{{- end }}
{{- end }}

{{/* The options of serve, as its environment. */}}
{{- define "messenger-connector.env" -}}
{{- $folder := "/etc/messenger-connector" }}
- {name: CONNECTOR_LISTEN, value: "0.0.0.0:50051"}
- {name: CONNECTOR_HEALTH_LISTEN, value: "0.0.0.0:50052"}
- {name: CONNECTOR_ADMIN_LISTEN, value: "0.0.0.0:9090"}
- {name: CONNECTOR_GRAPH_URL, value: {{ .Values.graphUrl | quote }}}
{{- if .Values.pages.existingSecret }}
- {name: CONNECTOR_PAGES, value: {{ printf "%s/pages/%s" $folder .Values.pages.key | quote }}}
{{- else }}
{{- with .Values.page }}
- name: PAGE_ACCESS_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ .accessToken.existingSecret }}, key: {{ .accessToken.key }}}
- {name: CONNECTOR_PAGE_ID, value: {{ .id | quote }}}
- {name: CONNECTOR_GRAPH_VERSION, value: {{ .graphVersion | quote }}}
- {name: CONNECTOR_RATE_PER_SECOND, value: {{ int64 .ratePerSecond | quote }}}
- {name: CONNECTOR_MEDIA_RATE_PER_SECOND, value: {{ int64 .mediaRatePerSecond | quote }}}
{{- if .appSecret.existingSecret }}
- {name: CONNECTOR_APP_SECRET_FILE, value: {{ printf "%s/app-secret/%s" $folder .appSecret.key | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.callers.existingSecret }}
- {name: CONNECTOR_CALLERS, value: {{ printf "%s/callers/%s" $folder .Values.callers.key | quote }}}
{{- end }}
- {name: CONNECTOR_CALLER_STREAMS_MAX, value: {{ int64 .Values.callers.streamsMax | quote }}}
- {name: CONNECTOR_CALLER_REQUESTS_IN_FLIGHT_MAX, value: {{ int64 .Values.callers.requestsInFlightMax | quote }}}
{{- if .Values.insecureNoAuth }}
- {name: CONNECTOR_INSECURE_NO_AUTH, value: "true"}
{{- end }}
{{- if .Values.tls.existingSecret }}
- {name: CONNECTOR_TLS_CERT, value: {{ printf "%s/tls/tls.crt" $folder | quote }}}
- {name: CONNECTOR_TLS_KEY, value: {{ printf "%s/tls/tls.key" $folder | quote }}}
{{- end }}
{{- if .Values.tls.clientCa.existingSecret }}
- {name: CONNECTOR_TLS_CLIENT_CA, value: {{ printf "%s/client-ca/%s" $folder .Values.tls.clientCa.key | quote }}}
{{- end }}
{{- if eq .Values.ledger.kind "sqlite" }}
- {name: CONNECTOR_LEDGER, value: "sqlite:///var/lib/messenger-connector/messenger-connector.db"}
{{- else }}
- name: CONNECTOR_LEDGER
  valueFrom:
    secretKeyRef: {name: {{ .Values.ledger.postgres.existingSecret }}, key: {{ .Values.ledger.postgres.key }}}
{{- end }}
- {name: CONNECTOR_LEDGER_RETENTION_DAYS, value: {{ int64 .Values.ledger.retentionDays | quote }}}
- {name: CONNECTOR_BULK_IN_FLIGHT_MAX, value: {{ int64 .Values.bulkInFlightMax | quote }}}
- {name: CONNECTOR_CONNECTION_AGE_MAX_MS, value: {{ int64 .Values.connectionAgeMaxMs | quote }}}
- {name: CONNECTOR_DRAIN_DELAY_MS, value: {{ int64 .Values.drain.delayMs | quote }}}
- {name: CONNECTOR_DRAIN_TIMEOUT_MS, value: {{ int64 .Values.drain.timeoutMs | quote }}}
- {name: CONNECTOR_LOG, value: {{ .Values.log.filter | quote }}}
- {name: CONNECTOR_LOG_FORMAT, value: {{ .Values.log.format }}}
{{- with .Values.otlpEndpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
