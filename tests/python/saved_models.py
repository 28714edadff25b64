"""SavedModels with TensorFlow's own answers, and servers of them.

The models are in `shared`: groups of operators, models with variables, and the zoo, whose ONNX files are left out.

Not here: playing a case (`recorded_cases.py`), which answers are expected (the tests).
"""

import json
import shutil

from tensorflow.core.protobuf import saved_model_pb2

from model_server import SHARED, ModelServer, poll
from recorded_cases import play, read_cases, signature_of

ROOTS = ("op_zoo", "saved_models", "zoo")
VARIABLES = {"VarHandleOp", "Variable", "VariableV2"}
# Signatures of a higher tier are allowed to be refused.
LAST_PROMISED_TIER = 2
LOAD_SECONDS = 600


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


def read_all(scratch):
    """All models, by their identifiers; copies go to `scratch`."""
    models = (read_model(*name.split("/"), scratch) for name in model_ids())
    return {model.id: model for model in models}


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
            reason = refusal(served.error(model), signature)
            found[signature] = f"{case['name']}: {reason or difference}"
    return found


def refusal(error, signature):
    """The sentence about a signature in the error of a load."""
    sentences = error.split("signature '")
    about = (it for it in sentences if it.startswith(f"{signature}' "))
    return next((f"signature '{it}" for it in about), None)


def is_refused(served, model, signature):
    """Whether a signature that the server does not promise is refused by name."""
    if model.tier_of(signature) <= LAST_PROMISED_TIER:
        return False
    return refusal(served.error(model), signature) is not None
