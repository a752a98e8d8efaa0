"""Lints the Helm chart, renders it with each set of values in its folder `ci`, and checks what comes out.

What comes out must be valid Kubernetes, strictly, and keep the "restricted" Pod Security Standard. Values that are
wrong, or contradict each other, must be refused with an error that names them. Wants Helm's path as its argument, and
the service's in MESSENGER_CONNECTOR, to compare their options.
"""

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import kubernetes_validate
import yaml

CHART = pathlib.Path("deploy/helm/messenger-connector")
VERSIONS = ("1.34", "1.37")
# Kinds that Kubernetes itself has no schema for.
FOREIGN_KINDS = {"ServiceMonitor"}
# Who may be mounted, of "restricted".
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}

# A set of values from `ci`, what is changed of it, and what the error must say.
REFUSED = [
    ("sqlite", ["replicaCount=2"], "ledger.kind=sqlite serves one pod"),
    ("sqlite", ["autoscaling.enabled=true"], "ledger.kind=sqlite serves one pod"),
    ("sqlite", ["ledger.kind=postgres"], "needs ledger.postgres.existingSecret"),
    ("sqlite", ["ledger.kind=mysql"], "/ledger/kind"),
    ("sqlite", ["page.accessToken.existingSecret="], "no page"),
    ("sqlite", ["pages.existingSecret=many"], "exclude each other"),
    ("sqlite", ["callers.existingSecret="], "anybody could call"),
    ("sqlite", ["insecureNoAuth=true"], "insecureNoAuth contradicts"),
    ("sqlite", ["tls.clientCa.existingSecret=ca"], "needs tls.existingSecret"),
    ("sqlite", ["terminationGracePeriodSeconds=45"], "must be more than drain.delayMs"),
    ("sqlite", ["drain.timeoutMs=600000"], "must be more than drain.delayMs"),
    ("sqlite", ["page.accessToken.value=EAAG"], "/page/accessToken"),
    ("sqlite", ["page.graphVersion=25"], "/page/graphVersion"),
    ("sqlite", ["page.ratePerSecond=-1"], "/page/ratePerSecond"),
    ("sqlite", ["ledger.sqlite.accessModes={ReadWriteMany}"], "/ledger/sqlite/accessModes"),
    ("sqlite", ["image.tag=latest"], "/image/tag"),
    ("sqlite", ["replicas=2"], "replicas"),
    ("postgres", ["pages.existingSecret="], "no page"),
    ("postgres", ["page.appSecret.existingSecret=app"], "app_secret_file in the file of pages"),
    ("postgres", ["autoscaling.minReplicas=11"], "autoscaling.minReplicas"),
    ("postgres", ["podDisruptionBudget.maxUnavailable=0"], "/podDisruptionBudget/maxUnavailable"),
    ("postgres", ["log.format=xml"], "/log/format"),
    ("mtls", ["terminationGracePeriodSeconds=80"], "must be more than drain.delayMs"),
]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Helm."""
    return subprocess.run([sys.argv[1], *arguments], capture_output=True, text=True, check=False)


def values(name: str) -> str:
    """The option that takes a set of values."""
    return f"--values={CHART}/ci/{name}-values.yaml"


def render(name: str) -> list[dict]:
    """What Kubernetes would be told."""
    rendered = helm("template", "release", str(CHART), values(name), "--api-versions=monitoring.coreos.com/v1")
    if rendered.returncode != 0:
        sys.exit(f"{name}: {rendered.stderr}")
    return [document for document in yaml.safe_load_all(rendered.stdout) if document]


def validate(name: str, document: dict) -> None:
    """Fails on unknown and missing fields, and on values of the wrong kind."""
    if document["kind"] in FOREIGN_KINDS:
        return
    for version in VERSIONS:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            sys.exit(f"{name}: {document['kind']}: {'.'.join(map(str, error.path))}: {error.message}")


def restricted(pod: dict) -> list[str]:
    """What of the Pod Security Standard "restricted" a pod breaks, and what this chart promises beyond it."""
    context = pod["securityContext"]
    broken = [field for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    broken += [f"volume {v['name']}" for v in pod.get("volumes", []) if not VOLUMES & set(v)]
    checks = {
        "runAsNonRoot": context["runAsNonRoot"] is True and context["runAsUser"] > 10_000,
        "seccompProfile": context["seccompProfile"]["type"] == "RuntimeDefault",
        "automountServiceAccountToken": pod["automountServiceAccountToken"] is False,
    }
    for container in pod["containers"]:
        own = container["securityContext"]
        checks |= {
            "allowPrivilegeEscalation": own["allowPrivilegeEscalation"] is False,
            "capabilities": own["capabilities"] == {"drop": ["ALL"]},
            "readOnlyRootFilesystem": own["readOnlyRootFilesystem"] is True,
            "resources": {"cpu", "memory"} <= set(container["resources"]["requests"]),
        }
    return broken + [what for what, holds in checks.items() if not holds]


def options() -> set[str]:
    """The environment variables that `serve` reads, as its help has them."""
    command = [os.environ["MESSENGER_CONNECTOR"], "serve", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"\[env: (\w+)", text))


def check(name: str) -> None:
    """Checks what one set of values makes."""
    lint = helm("lint", "--strict", str(CHART), values(name))
    if lint.returncode != 0:
        sys.exit(f"{name}: {lint.stdout}{lint.stderr}")
    documents = render(name)
    by_kind = {document["kind"]: document for document in documents}
    for document in documents:
        validate(name, document)
        if document["kind"] == "Pod" and (broken := restricted(document["spec"])):
            sys.exit(f"{name}: the test pod breaks {broken}")
    deployment = by_kind["Deployment"]["spec"]
    if broken := restricted(deployment["template"]["spec"]):
        sys.exit(f"{name}: the pods break {broken}")

    (container,) = deployment["template"]["spec"]["containers"]
    probes = [container[probe]["grpc"]["service"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    is_sqlite = (environment["CONNECTOR_LEDGER"] or "").startswith("sqlite://")
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    files = [value for value in environment.values() if value and value.startswith("/etc/")]
    if unknown := set(environment) - options() - {"OTEL_METRIC_EXPORT_INTERVAL"}:
        sys.exit(f"{name}: serve has no option for {sorted(unknown)}")
    expectations = {
        "probes tell liveness from readiness": probes == ["readiness", "readiness", "liveness"],
        "SQLite pods do not overlap": (deployment["strategy"]["type"] == "Recreate") == is_sqlite,
        "SQLite has one pod": not is_sqlite or deployment["replicas"] == 1,
        "the autoscaler alone counts pods": ("HorizontalPodAutoscaler" in by_kind) != ("replicas" in deployment),
        "files are mounted": all(any(file.startswith(f"{folder}/") for folder in mounted) for file in files),
        "a page is configured": ("PAGE_ACCESS_TOKEN" in environment) != ("CONNECTOR_PAGES" in environment),
        "there is a headless service": any(d["spec"].get("clusterIP") == "None" for d in documents if "spec" in d),
    }
    for what, holds in expectations.items():
        if not holds:
            sys.exit(f"{name}: it does not hold that {what}")
    print(f"chart: {name}: {len(documents)} objects")


def main() -> None:
    """Checks all sets of values, then that wrong ones are refused."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads(pathlib.Path("Cargo.toml").read_text())["package"]["version"]
    if {chart["version"], chart["appVersion"]} != {version}:
        sys.exit(f"the chart is of another version than the service, {version}")
    names = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").iterdir())
    for name in names:
        check(name)
    if helm("template", "release", str(CHART), values("postgres")).stdout.count("ServiceMonitor"):
        sys.exit("a ServiceMonitor is made for a cluster that does not know it")
    for name, changes, error in REFUSED:
        refused = helm("template", "release", str(CHART), values(name), *(f"--set={change}" for change in changes))
        if refused.returncode == 0 or error not in refused.stderr:
            sys.exit(f"{name} with {changes} is not refused with {error!r}: {refused.stderr or 'it is taken'}")
    print(f"chart: {len(REFUSED)} wrong sets of values refused")


main()
