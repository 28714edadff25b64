"""SavedModels that Python packages contain: the download, the files of the model, the inputs, the answers.

`tests/data/published/models.json` lists the packages, each pinned by version and hash. Inputs come from
a seed, so only answers are recorded, by `tools/record_published_models.py`.

Not here: the tests (`test_published_models.py`).
"""

import dataclasses
import hashlib
import io
import json
import pathlib
import re
import shutil
import subprocess
import zipfile

import numpy as np

from model_server import PROJECT, TARGET

DATA = PROJECT / "tests" / "data" / "published"
# Kept between runs; a file is used only while its hash is the pinned one.
CACHE = TARGET / "published"
DOWNLOAD_SECONDS = 300
SIGNATURE = "serving_default"

# The only names that are taken out of an archive, relative to the directory of the SavedModel.
SERVED_FILE = re.compile(
    r"saved_model\.pb|variables/variables\.(index|data-\d{5}-of-\d{5})|assets/\w[\w.-]*"
)


class NotReachable(Exception):
    """pip could not download a package; the text is the last line that pip wrote."""


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """One entry of `models.json`."""

    name: str
    package: str
    version: str
    wheel: str
    sha256: str
    licence: str
    saved_by: str
    domain: str
    # The path of the SavedModel in the wheel. All but the last are archives, each inside of the one before.
    members: list
    # Whether the download is left to `make test-full`.
    large: bool
    # An answer is recorded as every n-th of its elements.
    recorded_every: int
    tolerance: dict
    # For each case the inputs by alias, as arguments of `values`.
    cases: list

    def inputs(self, case):
        """The inputs of a case, by alias; the same at every call."""
        return {
            alias: values(np.random.RandomState([case, place]), **how)
            for place, (alias, how) in enumerate(sorted(self.cases[case].items()))
        }

    def sample(self, answer):
        """The elements of an answer that are recorded."""
        return np.asarray(answer).ravel()[:: self.recorded_every]

    def recorded(self):
        """TensorFlow's answers: for each case the shape and the sample of each output, by alias."""
        with np.load(DATA / f"{self.name}.npz") as arrays:
            answers = [{} for _ in self.cases]
            for key in arrays:
                case, alias, part = key.split("/")
                answers[int(case)].setdefault(alias, {})[part] = arrays[key]
        return answers

    def unpack(self, folder):
        """Writes the SavedModel into `folder`, and nothing else of the package."""
        archive = zipfile.ZipFile(self.download())
        *nested, directory = self.members
        for member in nested:
            archive = zipfile.ZipFile(io.BytesIO(archive.read(member)))
        for member in archive.namelist():
            name = member.removeprefix(directory + "/")
            if name != member and SERVED_FILE.fullmatch(name):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(member))

    def download(self):
        """The path of the wheel. Raises `NotReachable` where pip cannot fetch it."""
        path = CACHE / self.wheel
        if not path.is_file() or digest(path) != self.sha256:
            pip_download(self.package, self.version)
            assert digest(path) == self.sha256, f"{self.wheel} is not the pinned file"
        return path


def published_models():
    entries = json.loads((DATA / "models.json").read_text())
    return [PublishedModel(name=name, **entry) for name, entry in entries.items()]


def pip_download(package, version):
    # The virtual environment of the tests has no pip. Nothing is installed and none of the package's
    # code runs, so Python's version and the platform are those of the pinned wheel, not this machine's.
    command = [shutil.which("python3"), "-m", "pip", "--disable-pip-version-check", "download"]
    command += ["--quiet", "--no-deps", "--only-binary=:all:", "--retries=1", "--dest", str(CACHE)]
    command += ["--implementation=cp", "--python-version=3.11", "--platform=manylinux_2_17_x86_64"]
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            [*command, f"{package}=={version}"],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise NotReachable(f"no answer in {DOWNLOAD_SECONDS} s") from None
    if done.returncode:
        raise NotReachable((done.stderr.strip().splitlines() or ["pip failed"])[-1])


def digest(path: pathlib.Path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def values(random, kind, shape, below=None, padding=None):
    """A tensor of one of these kinds: what a client of the model could send."""
    if kind == "integers":
        return random.randint(below, size=shape).astype(np.int64)
    if kind == "uniform":
        return random.uniform(size=shape).astype(np.float32)
    if kind == "normal":
        return random.normal(size=shape).astype(np.float32)
    if kind == "padded":
        # Sequences of different lengths, filled up at the end.
        tensor = random.normal(size=shape).astype(np.float32)
        for row, length in zip(tensor, random.randint(1, shape[1], size=shape[0])):
            row[length:] = padding
        return tensor
    if kind == "tones":
        # Three notes of different loudness in noise, at 22,050 samples a second.
        rows, samples, _ = shape
        time = np.arange(samples) / 22050
        pitches = random.uniform(80, 1500, size=(rows, 3, 1))
        volumes = random.uniform(0.05, 0.3, size=(rows, 3, 1))
        sound = (volumes * np.sin(2 * np.pi * pitches * time)).sum(axis=1)
        sound += random.normal(scale=0.05, size=sound.shape)
        return sound[..., None].astype(np.float32)
    raise ValueError(kind)
