"""SavedModels that were not converted are served, with TensorFlow's own answers.

Every group of operators, every model with variables, and the models of the zoo that need none are served from
the directory that TensorFlow wrote. `saved_models_pending.txt` lists those that do not pass yet; it is allowed
only to shrink, so one that is listed and passes fails its test. `pytest --rewrite_pending` writes the list.

Signatures of the tiers 3 and 4 need operators that the server does not promise. They are either answered
as TensorFlow answers, or refused with every missing operator named.
"""

import pathlib
import re
import subprocess

import pytest

from model_server import BINARY, PROJECT
from recorded_cases import signature_of
from saved_models import LAST_PROMISED_TIER, Served, differences, model_ids, read_all

PENDING = pathlib.Path(__file__).with_name("saved_models_pending.txt")
OPERATORS = PROJECT / "docs" / "supported-operators.md"
PENDING_HEADER = """\
# Signatures of the op zoo and models that the server does not answer as TensorFlow yet, from their SavedModel.
# Written by `pytest tests/python/test_saved_models.py --rewrite_pending`.
"""


@pytest.fixture(scope="module")
def served(shared, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("saved_models")
    servers = Served(read_all(scratch), scratch)
    yield servers
    servers.stop()


@pytest.fixture(scope="module")
def imported(shared, tmp_path_factory):
    """Servers of the version directories that the command `import` writes: of half of the models."""
    scratch = tmp_path_factory.mktemp("imported")
    models = read_all(scratch)
    models = {name: models[name] for name in half_of_all()}
    servers = Served(models, scratch)
    for model in list(models.values()):
        target = scratch / "imported" / model.id
        command = [BINARY, "import", model.base_path, "--output", target, "--saved_model_partial"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # It names the signatures that are left out or refused.
        servers.errors[model.id] = done.stdout
        model.base_path = target
        if done.returncode != 0:
            del models[model.id]
    yield servers
    servers.stop()


def listed_names():
    return [it for it in PENDING.read_text().splitlines() if it and not it.startswith("#")]


def half_of_all():
    """Every second model, of those that pass."""
    pending = {"/".join(it.split("/")[:2]) for it in listed_names()}
    return [it for it in model_ids()[::2] if it not in pending and not it.startswith("zoo/")]


@pytest.fixture(scope="module")
def pending(request):
    """The listed names. With `--rewrite_pending`, the list is written from the failures when all have run."""
    listed = set(listed_names())
    rewritten = {}
    yield listed, rewritten
    if request.config.getoption("--rewrite_pending"):
        untouched = {name for name in listed if "/".join(name.split("/")[:2]) not in rewritten}
        names = sorted(untouched.union(*rewritten.values()))
        PENDING.write_text(PENDING_HEADER + "".join(f"{name}\n" for name in names))


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


@pytest.mark.parametrize("name", half_of_all() or ["none"])
def test_written_versions_answer_alike(name, imported):
    """What `import` writes is what the server makes of the SavedModel in memory."""
    if name in imported.models:
        assert not differences(imported, imported.models[name])
    else:
        assert "is not served: signature '" in imported.errors[name]


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
    names = listed_names()
    assert names == sorted(set(names)), "sorted, each once"
    models = set(model_ids())
    unknown = [it for it in names if "/".join(it.split("/")[:2]) not in models]
    assert not unknown
