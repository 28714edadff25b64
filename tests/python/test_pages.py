"""The pages of this repository: links lead somewhere, and what they say of the build is true."""

import re
import tomllib

import pytest

from model_server import PROJECT

PAGES = sorted([PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(name):
    return (PROJECT / name).read_text()


def anchors(page):
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    cleaned = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in cleaned}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_readme_names_the_rust_that_cargo_wants():
    version = tomllib.loads(text_of("Cargo.toml"))["workspace"]["package"]["rust-version"]
    assert f"Rust {version}" in text_of("README.md")


def test_readme_leads_from_a_trained_model_to_a_served_one():
    readme = text_of("README.md")
    assert "(docs/importing.md)" in readme
    for command in ("docker run ", " show --dir", " check --dir", "--model_base_path="):
        assert command in readme, command


def test_first_contact_is_a_directory_and_an_image():
    """No conversion stands between a directory of SavedModels and the first answer."""
    readme = text_of("README.md")
    first = re.search(r"```sh\n(.*?)```", readme, re.DOTALL)[1]
    assert first.startswith("docker run ") and "MODEL_NAME=" in first
    assert "import_model.py" not in readme


def test_every_command_of_the_conversion_has_what_it_needs():
    """The interpreter for the tool is made before it is used, from the packages for that command."""
    blocks = "".join(re.findall(r"```\w*\n(.*?)```", text_of("docs/importing.md"), re.DOTALL))
    order = [
        "python3 -m venv import\n",
        "> import/requirements.txt\n",
        "import/bin/pip install -r import/requirements.txt",
        "import/bin/python tools/import_model.py ",
    ]
    places = [blocks.find(part) for part in order]
    assert -1 not in places, places
    assert places == sorted(places)
    first_use = blocks.find("import/bin/")
    assert first_use > places[0]


def test_importing_begins_with_the_small_variant():
    page = text_of("docs/importing.md")
    first = re.search(r"```sh\n(.*?)```", page, re.DOTALL)[1]
    pattern = re.search(r"grep -v -E '([^']+)'", first)[1]
    lines = text_of("tools/import_requirements.txt").splitlines()
    kept = [line.split("==")[0] for line in lines if not re.search(pattern, line)]
    assert "tensorflow-cpu" in kept and "tf2onnx" in kept
    assert "torch" not in kept and "onnxscript" not in kept


def test_no_page_signals_every_server_of_a_machine():
    for page in PAGES:
        assert not re.search(r"\b(pidof|pkill|killall)\b", page.read_text()), page.name


def test_security_says_how_the_server_is_started_with_its_files():
    page = text_of("docs/security.md")
    for flag in ("--ssl_config_file", "--auth_config_file"):
        assert re.search(rf'make serve SERVE_FLAGS="{flag}=', page), flag
