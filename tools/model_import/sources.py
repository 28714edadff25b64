"""What a file or directory is that somebody wants to import, and how to get a model from it.

Contents count before names, because names are often wrong. Imports nothing but the standard library, so
that the answer does not wait for the packages of the wrong command.

Not here: why a library refuses a file of the right kind (`saved_model`, `torch_model`).
"""

import dataclasses
import pathlib
import zipfile

from model_import.errors import ImportFailed

SAVED_MODEL, KERAS, TORCH_EXPORT = "saved_model", "keras", "torch"
HEAD_BYTES = 4096
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
COPY_AGAIN = "copying it has failed or has not ended: copy it again and compare the sizes"
IN_PROGRAM = (
    "in the program that has its class, run torch.export.save(torch.export.export(model, example), "
    "'model.pt2') and import that, or name a function that makes the model: `torch MODULE:NAME --input ...`"
)
# First bytes of pickles of protocol 2 and later.
PICKLES = tuple(bytes([0x80, protocol]) for protocol in (2, 3, 4, 5))

# The number at the beginning of PyTorch's old format, as Python pickles it.
TORCH_MAGIC = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file or directory."""

    # A noun.
    text: str
    # The command that imports it, or the advice instead.
    command: str | None = None
    way_out: str = ""


EMPTY = Kind("an empty file", None, COPY_AGAIN)
ZEROS = Kind("a file of zeros", None, COPY_AGAIN)
LFS = Kind(
    "a Git LFS pointer, which stands for a file",
    None,
    "run `git lfs pull` in the clone it is from, then copy the file again",
)
ANNEX = Kind(
    "a git-annex pointer, which stands for a file",
    None,
    "run `git annex get` in the clone it is from, then copy the file again",
)
HTML = Kind(
    "an HTML or XML page",
    None,
    "a download got an error or sign-in page instead of the file: download it again by the address of "
    "the file itself",
)
TEXT = Kind(
    "a text file",
    None,
    "if it was downloaded, it may be an error message: look into it, and download the model again",
)
STAND_INS = (EMPTY, ZEROS, LFS, ANNEX, HTML, TEXT)

SAVED_MODEL_DIRECTORY = Kind("the directory of a TensorFlow SavedModel", SAVED_MODEL)
KERAS_FILE = Kind("a Keras model", KERAS)
KERAS_WEIGHTS = Kind(
    "a file of Keras weights, without a graph",
    None,
    "load them into the model in the program that builds it (model.load_weights), save the whole model "
    "(model.save('model.keras')), and import that",
)
PROGRAM = Kind("a PyTorch program of torch.export (.pt2)", TORCH_EXPORT)
TORCH_SCRIPT = Kind("a TorchScript program (torch.jit.save)", None, IN_PROGRAM)
TORCH_SAVE = Kind("a file of torch.save: weights, or a pickled module", None, IN_PROGRAM)
ONNX = Kind(
    "an ONNX model by its name",
    None,
    "it needs no import: put it into a version directory as model.onnx",
)
# By the end of the name, if the contents are not known.
BY_NAME = {
    ".onnx": ONNX,
    ".tflite": Kind(
        "a TensorFlow Lite model",
        None,
        "run `python3 -m tf2onnx.convert --tflite FILE --output model.onnx`",
    ),
    ".safetensors": Kind(
        "a safetensors file: weights without a graph",
        None,
        "export the model from the library that has its graph",
    ),
    ".pb": Kind(
        "a frozen TensorFlow graph by its name",
        None,
        "run `python3 -m tf2onnx.convert --graphdef FILE --inputs NAME:0 --outputs NAME:0 --output "
        "model.onnx`",
    ),
}
PICKLE = Kind(
    "a Python pickle",
    None,
    "convert it in Python: skl2onnx for scikit-learn, onnxmltools for XGBoost and LightGBM, "
    "torch.onnx.export for PyTorch",
)
PYTHON = Kind(
    "Python source",
    None,
    "name the module and, in it, a function that makes the model: `torch MODULE:NAME --input ...`",
)
ARCHIVE = Kind("an archive", None, "unpack it and import the model that is in it")


def check_source(command, source):
    """Raises ImportFailed if `source` exists and is of a kind that `command` does not import."""
    path = pathlib.Path(source)
    if not path.exists():
        return
    kind = kind_of(path) or _unknown(command)
    if kind.command == command:
        return
    way_out = kind.way_out or f"import it by `import_model.py {kind.command} {path}`"
    raise ImportFailed(f"{path} is {kind.text}; {way_out}")


def check_exists(command, source):
    """Raises ImportFailed if there is no such file or directory, and it is not MODULE:NAME either."""
    if command == "torch" and ":" in str(source):
        return
    if not pathlib.Path(source).exists():
        also = ", and it is not of the form MODULE:NAME" if command == "torch" else ""
        raise ImportFailed(f"there is no {source}{also}")


def kind_of(path):
    """What is there; None if that is not known."""
    if path.is_dir():
        return _kind_of_directory(path)
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if path.suffix == ".py":
        return PYTHON
    return _stand_in(head) or _kind_of_contents(path, head) or _kind_of_name(path)


def _kind_of_directory(path):
    graph = path / "saved_model.pb"
    if graph.is_file():
        for file in [graph, *sorted((path / "variables").glob("*"))]:
            with file.open("rb") as opened:
                kind = _stand_in(opened.read(HEAD_BYTES))
            # Variables of a model without weights are empty.
            if kind is not None and (file == graph or kind not in (EMPTY, ZEROS, TEXT)):
                return Kind(f"a SavedModel whose {file.relative_to(path)} is {kind.text}", None, kind.way_out)
        return SAVED_MODEL_DIRECTORY
    versions = sorted((it for it in path.iterdir() if (it / "saved_model.pb").is_file()), key=str)
    if versions:
        return Kind(
            "a directory of SavedModels",
            None,
            f"import one of them: `import_model.py saved_model {versions[-1]}`",
        )
    files = [it for it in sorted(path.iterdir()) if it.is_file()]
    kinds = [(file, kind_of(file)) for file in files]
    found = next((it for it in kinds if it[1] is not None and it[1].command), None)
    if found is not None:
        file, kind = found
        way_out = f"import the file: `import_model.py {kind.command} {file}`"
        return Kind(f"a directory with {kind.text}", None, way_out)
    return Kind(
        "a directory without a saved_model.pb",
        None,
        "a SavedModel has one; of a Keras or PyTorch model, name the file",
    )


def _stand_in(head):
    """What takes the place of a file of any kind by accident."""
    if not head:
        return EMPTY
    if not any(head):
        return ZEROS
    if head.lstrip()[:1] == b"<":
        return HTML
    try:
        text = head.decode().strip().lower()
    except UnicodeDecodeError as error:
        # A character can be cut in two at the end.
        if error.start < HEAD_BYTES - 3:
            return None
        text = head[: error.start].decode().strip().lower()
    if any(ord(letter) < 32 and letter not in "\t\n\r\f" for letter in text):
        return None
    if "git-lfs.github.com/" in text or "hawser.github.com/" in text:
        return LFS
    if text.startswith("/annex/objects/") or ".git/annex/objects/" in text:
        return ANNEX
    return TEXT


def _kind_of_contents(path, head):
    if head.startswith(HDF5_MAGIC):
        if path.stat().st_size < _hdf5_size(head):
            return _cut_off("an HDF5 file, such as a Keras model")
        return KERAS_WEIGHTS if path.name.endswith(".weights.h5") else KERAS_FILE
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if head.startswith(PICKLES):
        return TORCH_SAVE if b"torch" in head or TORCH_MAGIC in head else PICKLE
    if head[4:8] == b"TFL3":
        return BY_NAME[".tflite"]
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return BY_NAME[".safetensors"]
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf")) or head[257:262] == b"ustar":
        return ARCHIVE
    return None


def _kind_of_zip(path):
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return _cut_off("a ZIP archive, such as a Keras or PyTorch model")
    if "model.weights.h5" in names or {"config.json", "metadata.json"} <= set(names):
        return KERAS_FILE
    ends = {name.rpartition("/")[2] for name in names}
    if "serialized_exported_program.json" in ends or "archive_format" in ends:
        return PROGRAM
    if "constants.pkl" in ends:
        return TORCH_SCRIPT
    if "data.pkl" in ends:
        return TORCH_SAVE
    return ARCHIVE


def _kind_of_name(path):
    if path.name == "saved_model.pb":
        way_out = f"import its directory: `import_model.py saved_model {path.parent}`"
        return Kind("the graph of a TensorFlow SavedModel", None, way_out)
    return BY_NAME.get(path.suffix)


def _unknown(command):
    """Every file that can be imported begins in a way that is known."""
    expected = {KERAS: "a Keras model", TORCH_EXPORT: "a .pt2 file"}.get(command, "a SavedModel")
    way_out = "look into it, and copy it again from where the model was saved"
    return Kind(f"not {expected}, by its first bytes", None, way_out)


def _cut_off(what):
    return Kind(f"the beginning of {what}: the file ends too early", None, COPY_AGAIN)


def _hdf5_size(head):
    """The size of the whole file according to its beginning; 0 if that does not say."""
    version = head[8] if len(head) > 8 else None
    # Where the size is, and where its width; other widths than 8 are rare.
    places = {0: (40, 13), 1: (44, 13), 2: (28, 9), 3: (28, 9)}
    start, width = places.get(version, (0, 0))
    is_known = start and head[width : width + 1] == b"\x08"
    return int.from_bytes(head[start : start + 8], "little") if is_known else 0
