"""The manifests in deploy/: the published schemas, and what has to agree between files.

Kinds of Kubernetes itself are checked by `kubernetes-validate`, which ships their schemas. Those of
the Prometheus operator and of KServe are checked for the fields that their definitions require.
"""

import shutil
import subprocess
import tomllib

import kubernetes_validate
import pytest
import yaml

from model_server import BINARY, PROJECT

KUBERNETES = PROJECT / "deploy" / "kubernetes"
KSERVE = PROJECT / "deploy" / "kserve"
OVERLAYS = ("development", "production")

# The oldest and the newest release that the manifests are for.
VERSIONS = ("1.29", "1.37")

# The peak of the server's resident memory, measured with the zoo's second MNIST model.
TEN_THOUSAND_IMAGES_GIB = 1.8

# The fields that the CustomResourceDefinitions require: dotted paths, `[]` for every item of a list.
REQUIRED = {
    "ServiceMonitor": ("spec.endpoints", "spec.selector"),
    "ClusterServingRuntime": (
        "spec.containers",
        "spec.containers[].name",
        "spec.supportedModelFormats[].name",
    ),
    "InferenceService": ("spec.predictor", "spec.predictor.model.modelFormat.name"),
}
API_VERSIONS = {
    "ServiceMonitor": "monitoring.coreos.com/v1",
    "ClusterServingRuntime": "serving.kserve.io/v1alpha1",
    "InferenceService": "serving.kserve.io/v1beta1",
}


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def manifests():
    """Every object that is written out in a file: `(file, object)`."""
    found = []
    for file in sorted([*KUBERNETES.rglob("*.yaml"), *KSERVE.rglob("*.yaml")]):
        for document in documents(file):
            # Kustomize's own files, including patches, are checked in the rendered output.
            is_object = isinstance(document, dict) and "$patch" not in document
            if is_object and document["kind"] != "Kustomization" and not is_patch(file):
                found.append((file.relative_to(PROJECT), document))
    return found


def is_patch(file):
    kustomization = file.parent / "kustomization.yaml"
    if not kustomization.is_file():
        return False
    (content,) = documents(kustomization)
    return file.name in {patch.get("path") for patch in content.get("patches", [])}


def name_of(case):
    return f"{case[1]['kind']}/{case[1]['metadata']['name']}"


@pytest.mark.parametrize("case", manifests(), ids=name_of)
def test_manifest_fits_its_schema(case):
    check_schema(case[1])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_fits_the_schemas(overlay):
    rendered = render(overlay)
    assert len(rendered) > 5
    for document in rendered:
        check_schema(document)
        is_global = document["kind"] == "Namespace"
        assert is_global or document["metadata"].get("namespace"), document["metadata"]


def test_development_has_one_pod_and_no_autoscaler():
    by_kind = {document["kind"]: document for document in render("development")}
    assert by_kind["Deployment"]["spec"]["replicas"] == 1
    assert "HorizontalPodAutoscaler" not in by_kind
    assert "PodDisruptionBudget" not in by_kind
    container = by_kind["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert gibibytes(container["resources"]["limits"]["memory"]) > TEN_THOUSAND_IMAGES_GIB


def test_production_scales_on_cpu_and_on_requests_in_flight():
    by_kind = {document["kind"]: document for document in render("production")}
    metrics = by_kind["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metrics[0]["resource"]["name"] == "cpu"
    name = metrics[1]["pods"]["metric"]["name"]
    assert f"| `{name}` | gauge |" in (PROJECT / "docs" / "metrics.md").read_text()
    assert "replicas" not in by_kind["Deployment"]["spec"], "the autoscaler owns the number"
    image = by_kind["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert not image.endswith(":latest")


def test_memory_limits_have_room_for_ten_thousand_images():
    for container in containers():
        limit = container["resources"]["limits"]["memory"]
        assert gibibytes(limit) > 1.5 * TEN_THOUSAND_IMAGES_GIB
    (patch,) = documents(KUBERNETES / "overlays" / "development" / "one-pod.yaml")
    (container,) = patch["spec"]["template"]["spec"]["containers"]
    assert gibibytes(container["resources"]["limits"]["memory"]) > TEN_THOUSAND_IMAGES_GIB


def test_images_have_the_tag_of_this_version():
    version = tomllib.loads((PROJECT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    (copier,) = documents(KUBERNETES / "copy-models.yaml")
    for container in [*containers(), *copier["spec"]["containers"]]:
        assert container["image"] == f"onnx-model-server:{version}"
        assert container["imagePullPolicy"] == "IfNotPresent"
    (production,) = documents(KUBERNETES / "overlays" / "production" / "kustomization.yaml")
    assert [image["newTag"] for image in production["images"]] == [version]


def test_copy_models_writes_where_the_server_reads():
    (copier,) = documents(KUBERNETES / "copy-models.yaml")
    pod = deployment()["spec"]["template"]["spec"]
    (volume,) = copier["spec"]["volumes"]
    claims = [it["persistentVolumeClaim"] for it in pod["volumes"] if it["name"] == "models"]
    assert [volume["persistentVolumeClaim"]["claimName"]] == [it["claimName"] for it in claims]
    assert "readOnly" not in volume["persistentVolumeClaim"]
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        assert copier["spec"]["securityContext"][name] == pod["securityContext"][name]
    page = (PROJECT / "docs" / "scaling.md").read_text()
    assert "deploy/kubernetes/copy-models.yaml" in page


def test_selectors_find_the_pods():
    labels = deployment()["spec"]["template"]["metadata"]["labels"]
    assert deployment()["spec"]["selector"]["matchLabels"] == labels
    selectors = [
        service["spec"]["selector"] for service in documents(base("services"))
    ] + [
        documents(base("pdb"))[0]["spec"]["selector"]["matchLabels"],
        documents(base("network-policy"))[0]["spec"]["podSelector"]["matchLabels"],
    ]
    assert selectors == [labels] * 4


def test_ports_are_named_alike_everywhere():
    container = deployment()["spec"]["template"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501, "admin": 8502}
    assert f"--admin_port={ports['admin']}" in container["args"]
    for service in documents(base("services")):
        for port in service["spec"]["ports"]:
            assert port["port"] == ports[port["targetPort"]]
    for rule in documents(base("network-policy"))[0]["spec"]["ingress"]:
        assert {port["port"] for port in rule["ports"]} <= set(ports)


def test_probes_ask_what_they_should():
    container = deployment()["spec"]["template"]["spec"]["containers"][0]
    paths = {
        probe: container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert paths == {
        "startupProbe": "/readyz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/healthz",
    }
    assert "--wait_for_models=false" in container["args"]


def test_a_pod_has_time_to_drain():
    pod = deployment()["spec"]["template"]["spec"]
    container = pod["containers"][0]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = int(flag(container["args"], "drain_timeout_seconds"))
    assert pause + drain < pod["terminationGracePeriodSeconds"]


def test_models_config_is_served_from_the_mounted_volume():
    text = (KUBERNETES / "base" / "models.config").read_text()
    container = deployment()["spec"]["template"]["spec"]["containers"][0]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    paths = [line.split('"')[1] for line in text.splitlines() if "base_path:" in line]
    assert len(paths) == 2
    assert all(path.startswith(mounts["models"] + "/") for path in paths)
    assert flag(container["args"], "model_config_file") == f"{mounts['config']}/models.config"


@pytest.mark.parametrize("source", ["deployment", "runtime"])
def test_the_server_knows_every_argument(source):
    if source == "deployment":
        container = deployment()["spec"]["template"]["spec"]["containers"][0]
    else:
        container = serving_runtime()["spec"]["containers"][0]
    usage = subprocess.run([BINARY, "--help"], capture_output=True, text=True, timeout=60).stdout
    for argument in container["args"]:
        name = argument.removeprefix("--").split("=")[0]
        assert f"--{name}=" in usage, f"{argument} is no flag of the server"


def test_runtime_is_called_as_tensorflow_serving_is():
    """As KServe's own `kserve-tensorflow-serving`, config/runtimes in its repository."""
    spec = serving_runtime()["spec"]
    (container,) = spec["containers"]
    assert container["name"] == "kserve-container"
    assert container["command"] == ["/usr/bin/tensorflow_model_server"]
    assert container["args"] == [
        "--model_name={{.Name}}",
        "--port=9000",
        "--rest_api_port=8080",
        "--model_base_path=/mnt/models",
        "--rest_api_timeout_in_ms=60000",
    ]
    formats = [(each["name"], each["version"]) for each in spec["supportedModelFormats"]]
    assert formats == [("tensorflow", "1"), ("tensorflow", "2"), ("onnx", "1")]
    assert spec["protocolVersions"] == ["v1", "grpc-v1"]


def test_services_name_the_runtime():
    runtime = serving_runtime()
    services = documents(KSERVE / "inference-service.yaml")
    (canary,) = documents(KSERVE / "inference-service-canary.yaml")
    for service in [*services, canary]:
        model = service["spec"]["predictor"]["model"]
        assert model["runtime"] == runtime["metadata"]["name"]
        assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert canary["metadata"]["name"] == services[0]["metadata"]["name"]
    assert 0 < canary["spec"]["predictor"]["canaryTrafficPercent"] < 100


def containers():
    """The server's, of Kubernetes and of KServe."""
    pod = deployment()["spec"]["template"]["spec"]
    return [*pod["containers"], *serving_runtime()["spec"]["containers"]]


def gibibytes(text):
    assert text.endswith("Gi"), text
    return float(text.removesuffix("Gi"))


def base(name):
    return KUBERNETES / "base" / f"{name}.yaml"


def deployment():
    (document,) = documents(base("deployment"))
    return document


def serving_runtime():
    (document,) = documents(KSERVE / "cluster-serving-runtime.yaml")
    return document


def flag(arguments, name):
    (value,) = [each.split("=", 1)[1] for each in arguments if each.startswith(f"--{name}=")]
    return value


def render(overlay):
    """What Kustomize makes of an overlay."""
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("kubectl is not installed")
    command = [kubectl, "kustomize", KUBERNETES / "overlays" / overlay]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return list(yaml.safe_load_all(ended.stdout))


def check_schema(document):
    kind = document["kind"]
    if kind in REQUIRED:
        assert document["apiVersion"] == API_VERSIONS[kind]
        for path in REQUIRED[kind]:
            assert all(values_at(document, path)), f"{kind} needs {path}"
        return
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)


def values_at(document, path):
    """The values that a dotted path names; None for one that is missing."""
    values = [document]
    for step in path.split("."):
        key = step.removesuffix("[]")
        values = [value.get(key) if isinstance(value, dict) else None for value in values]
        if step.endswith("[]"):
            values = [item for value in values for item in (value or [None])]
    return values
