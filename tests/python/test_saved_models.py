"""SavedModels that were not converted are served, with TensorFlow's own answers.

Every group of operators, every model with variables, and the models of the zoo that need none are served from
the directory that TensorFlow wrote. `saved_models_pending.txt` lists those that do not pass yet; it is allowed
only to shrink, so one that is listed and passes fails its test. `pytest --rewrite_pending` writes the list.

Signatures of the tiers 3 and 4 need operators that the server does not promise. They are either answered
as TensorFlow answers, or refused with every missing operator named.
"""

import json
import pathlib
import re
import shutil

import pytest
from tensorflow.core.protobuf import saved_model_pb2

from model_server import PROJECT, SHARED, ModelServer, poll
from recorded_cases import play, read_cases, signature_of

PENDING = pathlib.Path(__file__).with_name("saved_models_pending.txt")
OPERATORS = PROJECT / "docs" / "supported-operators.md"
ROOTS = ("op_zoo", "saved_models", "zoo")
VARIABLES = {"VarHandleOp", "Variable", "VariableV2"}
# Signatures of a higher tier are allowed to be refused.
LAST_PROMISED_TIER = 2
LOAD_SECONDS = 600
PENDING_HEADER = """\
# Signatures of the op zoo and models that the server does not answer as TensorFlow yet, from their SavedModel.
# Written by `pytest tests/python/test_saved_models.py --rewrite_pending`.
"""


class Model:
    """A base path of unconverted versions, with its cases."""

    def __init__(self, root, name, base_path, index, cases):
        self.root = root
        self.name = name
        self.base_path = base_path
        self.cases = cases
        self.tier = index.get("tier", 0 if index["serves"] != "may" else LAST_PROMISED_TIER + 1)
        self.operators = set(index.get("ops", ()))
        self.by_signature = {}

    @property
    def id(self):
        return f"{self.root}/{self.name}"

    def tier_of(self, signature):
        return self.by_signature.get(signature, {}).get("tier", self.tier)

    def operators_of(self, signature):
        return set(self.by_signature.get(signature, {}).get("ops", self.operators))

    def pending_name(self, signature):
        """The line of the list for a signature: the op zoo is listed by signature."""
        return f"{self.id}/{signature}" if self.root == "op_zoo" else self.id


def model_ids():
    """The identifiers of all models, for the names of the tests; none without the folder."""
    found = []
    for root in ROOTS:
        index = SHARED / root / "zoo.json"
        if index.is_file():
            entries = json.loads(index.read_text()).items()
            found += [f"{root}/{name}" for name, it in entries if is_ours(root, name, it)]
    return found


def is_ours(root, name, entry):
    """Whether a model of an index is played here: not a variant of another, and without variables in the zoo."""
    if root != "zoo":
        return True
    return name == entry["model"] and bool(versions_without_variables(SHARED / root / name))


def versions_without_variables(base_path):
    versions = [it for it in base_path.iterdir() if it.name.isdigit()]
    return [it for it in versions if (it / "saved_model.pb").is_file() and not has_variables(it)]


def has_variables(version):
    saved = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    for graph in (each.graph_def for each in saved.meta_graphs):
        bodies = [graph.node, *(function.node_def for function in graph.library.function)]
        if any(node.op in VARIABLES for body in bodies for node in body):
            return True
    return False


def read_model(root, name, scratch):
    """A model; those of the zoo have ONNX files, which a copy leaves out."""
    entry = json.loads((SHARED / root / "zoo.json").read_text())[name]
    base_path = SHARED / root / name
    cases = read_cases(SHARED / root / entry["cases"])
    if root == "zoo":
        versions = versions_without_variables(base_path)
        base_path = scratch / name
        for version in versions:
            (base_path / version.name).mkdir(parents=True)
            shutil.copy(version / "saved_model.pb", base_path / version.name)
        cases = [it for it in cases if it["version"] in {version.name for version in versions}]
    model = Model(root, name, base_path, entry, cases)
    recorded = json.loads((SHARED / root / entry["cases"]).read_text())
    model.by_signature = recorded.get("signatures", {})
    return model


class Served:
    """Servers of all models, one for each root and strictness, started again if one ends."""

    def __init__(self, models, scratch):
        self.models = models
        self.scratch = scratch
        self.servers = {}
        self.loaded = {}
        self.errors = {}

    def error(self, model):
        """The error of the load without `--saved_model_partial`; empty if the model is served."""
        if model.id not in self.errors:
            same = [it for it in self.models.values() if it.root == model.root]
            server = self.start(same, "strict", [])
            self.errors |= {it.id: load_error(server, it) for it in same}
            server.stop()
        return self.errors[model.id]

    def partial(self, model):
        """A server of the model with `--saved_model_partial`, and the error if it is not served."""
        server = self.servers.get(model.root)
        if server is None or not server.is_running():
            same = [it for it in self.models.values() if it.root == model.root]
            server = self.start(same, "partial", ["--saved_model_partial"])
            self.servers[model.root] = server
            self.loaded |= {it.id: load_error(server, it) for it in same}
        return server, self.loaded[model.id]

    def start(self, models, kind, flags):
        config = self.scratch / f"{models[0].root}.{kind}.config"
        entries = (
            f'config {{ name: "{it.name}" base_path: "{it.base_path}" model_platform: "tensorflow" '
            "model_version_policy { all {} } }"
            for it in models
        )
        config.write_text("model_config_list { %s }" % "\n".join(entries))
        number = len(list(self.scratch.glob("*.log")))
        flags = [
            f"--model_config_file={config}",
            "--wait_for_models=false",
            "--max_num_load_retries=0",
            *flags,
        ]
        return ModelServer(flags, [], self.scratch / f"{number}.log")

    def stop(self):
        for server in self.servers.values():
            server.stop()


def load_error(server, model):
    """Waits for the load of all versions; the texts of the errors."""

    def states():
        try:
            status, _, body = server.rest("GET", f"/v1/models/{model.name}")
        except OSError:
            assert server.is_running(), server.log()
            return None
        found = json.loads(body).get("model_version_status", []) if status == 200 else []
        is_done = found and all(it["state"] in ("AVAILABLE", "END") for it in found)
        return found if is_done else None

    found = poll(states, LOAD_SECONDS)
    return "\n".join(it["status"]["error_message"] for it in found if it["state"] != "AVAILABLE")


@pytest.fixture(scope="module")
def served(shared, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("saved_models")
    models = {}
    for name in model_ids():
        root, name = name.split("/")
        model = read_model(root, name, scratch)
        models[model.id] = model
    servers = Served(models, scratch)
    yield servers
    servers.stop()


@pytest.fixture(scope="module")
def pending(request):
    """The listed names. With `--rewrite_pending`, the list is written from the failures when all have run."""
    listed = {it for it in PENDING.read_text().splitlines() if it and not it.startswith("#")}
    rewritten = {}
    yield listed, rewritten
    if request.config.getoption("--rewrite_pending"):
        untouched = {name for name in listed if "/".join(name.split("/")[:2]) not in rewritten}
        names = sorted(untouched.union(*rewritten.values()))
        PENDING.write_text(PENDING_HEADER + "".join(f"{name}\n" for name in names))


def differences(served, model):
    """The first difference of each signature that has one."""
    found = {}
    for case in model.cases:
        signature = signature_of(case)
        if signature in found or is_refused(served, model, signature):
            continue
        server, error = served.partial(model)
        difference = error or play(server, model.name, case)
        if not difference and not server.is_running():
            difference = "the server ended"
        if difference:
            found[signature] = f"{case['name']}: {difference}"
    return found


def is_refused(served, model, signature):
    """Whether a signature that the server does not promise is refused by name."""
    if model.tier_of(signature) <= LAST_PROMISED_TIER:
        return False
    return f"signature '{signature}' " in served.error(model)


@pytest.mark.parametrize("name", model_ids() or ["none"])
def test_answers_are_those_of_tensorflow(name, served, pending, request):
    model = served.models[name]
    listed, rewritten = pending
    found = differences(served, model)
    failed = {model.pending_name(signature): text for signature, text in found.items()}
    if request.config.getoption("--rewrite_pending"):
        rewritten[name] = set(failed)
        return
    expected = {it for it in listed if it == name or it.startswith(f"{name}/")}
    played = {model.pending_name(signature_of(case)) for case in model.cases}
    assert expected <= played, f"{PENDING.name} lists names that do not exist"
    unlisted = [f"{it}: {text}" for it, text in failed.items() if it not in expected]
    assert not unlisted, "\n".join(unlisted)
    passed = sorted(expected - set(failed))
    assert not passed, f"these pass, remove them from {PENDING.name}: {passed}"


@pytest.mark.parametrize("name", [it for it in model_ids() if not it.startswith("zoo/")] or ["none"])
def test_a_refusal_names_every_missing_operator(name, served):
    model = served.models[name]
    supported = set(re.findall(r"`(\w+)`", OPERATORS.read_text()))
    missing = operators(model, lambda tier: tier > LAST_PROMISED_TIER) - supported
    for other in served.models.values():
        missing -= operators(other, lambda tier: tier <= LAST_PROMISED_TIER)
    if missing:
        error = served.error(model)
        unnamed = {it for it in missing if not re.search(rf"\b{it} \(node ", error)}
        assert not unnamed, f"{sorted(unnamed)} in: {error}"


def operators(model, has_tier):
    """The operators of the signatures whose tier is meant."""
    signatures = model.by_signature or {None: {}}
    meant = [it for it in signatures if has_tier(model.tier_of(it))]
    return set().union(*(model.operators_of(it) for it in meant))


def test_the_list_names_models_that_exist(shared):
    names = [it for it in PENDING.read_text().splitlines() if it and not it.startswith("#")]
    assert names == sorted(set(names)), "sorted, each once"
    models = set(model_ids())
    unknown = [it for it in names if "/".join(it.split("/")[:2]) not in models]
    assert not unknown
