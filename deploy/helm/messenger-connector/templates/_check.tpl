{{/* What the schema cannot say: values that contradict each other. Each message names the values and the way out. */}}
{{- define "messenger-connector.check" -}}
{{- $values := .Values }}
{{- $one := $values.page.accessToken.existingSecret }}
{{- $many := $values.pages.existingSecret }}
{{- if not (or $one $many) }}
{{- fail "no page: set page.accessToken.existingSecret to the Secret with the token of one page, or pages.existingSecret to the Secret with a file of many" }}
{{- end }}
{{- if and $one $many }}
{{- fail "page.accessToken.existingSecret and pages.existingSecret exclude each other: put the page into the file" }}
{{- end }}
{{- if and $many $values.page.appSecret.existingSecret }}
{{- fail "page.appSecret.existingSecret is about the one page of page: with pages.existingSecret, name app_secret_file in the file of pages" }}
{{- end }}
{{- $credentials := or $values.callers.existingSecret $values.tls.clientCa.existingSecret }}
{{- if not (or $credentials $values.insecureNoAuth) }}
{{- fail "anybody could call: set callers.existingSecret or tls.clientCa.existingSecret, or insecureNoAuth=true if the network keeps strangers out" }}
{{- end }}
{{- if and $credentials $values.insecureNoAuth }}
{{- fail "insecureNoAuth contradicts callers.existingSecret and tls.clientCa.existingSecret: leave one out" }}
{{- end }}
{{- if and $values.tls.clientCa.existingSecret (not $values.tls.existingSecret) }}
{{- fail "tls.clientCa.existingSecret needs tls.existingSecret: client certificates come with TLS only" }}
{{- end }}
{{- if eq $values.ledger.kind "sqlite" }}
{{- if or $values.autoscaling.enabled (gt (int $values.replicaCount) 1) }}
{{- fail "ledger.kind=sqlite serves one pod: set ledger.kind=postgres, or replicaCount=1 and autoscaling.enabled=false" }}
{{- end }}
{{- else if not $values.ledger.postgres.existingSecret }}
{{- fail "ledger.kind=postgres needs ledger.postgres.existingSecret, the Secret with its URL" }}
{{- else }}
{{- /* The cluster is asked only when it is changed, not when the chart is rendered. */}}
{{- $name := include "messenger-connector.fullname" . }}
{{- $running := lookup "apps/v1" "Deployment" .Release.Namespace $name }}
{{- if and (eq (dig "spec" "strategy" "type" "" $running) "Recreate") (gt (int (dig "status" "replicas" 0 $running)) 0) }}
{{- fail (printf "the release still sends with its SQLite ledger, and a new ledger knows nothing of that: kubectl scale deployment %s --replicas=0, copy the ledger with messenger-connector ledger copy, then upgrade" $name) }}
{{- end }}
{{- end }}
{{- if gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas) }}
{{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas" }}
{{- end }}
{{- $needed := add (int64 $values.drain.delayMs) (int64 $values.drain.timeoutMs) 15000 }}
{{- if le (mul 1000 (int64 $values.terminationGracePeriodSeconds)) $needed }}
{{- fail (printf "terminationGracePeriodSeconds=%d would kill pods that still drain: it must be more than drain.delayMs, drain.timeoutMs and 15 s together, %d ms" (int64 $values.terminationGracePeriodSeconds) $needed) }}
{{- end }}
{{- end }}
