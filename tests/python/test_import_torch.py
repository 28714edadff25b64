"""PyTorch models: imported, served, and answering as PyTorch itself does."""

import json
import subprocess
import sys

import numpy
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from importing import check_same, import_model, predict, run_import, serve

MODULE = '''
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.embedding = torch.nn.Embedding(10, 4)
        self.linear = torch.nn.Linear(4, 5)

    def forward(self, image, ids):
        x = torch.relu(self.convolution(image)).mean((2, 3)) + self.embedding(ids).mean(1)
        return self.linear(x), x


def make():
    torch.manual_seed(1)
    return Net()
'''
ALIASES = ("--output_alias", "logits", "--output_alias", "embedding")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The model, and the folder in which `net.py` makes it."""
    folder = tmp_path_factory.mktemp("torch")
    (folder / "net.py").write_text(MODULE)
    names = {}
    exec(MODULE, names)  # the test's own text
    return names["make"]().eval(), folder


@pytest.fixture(scope="module")
def server(model, tmp_path_factory, start_server):
    net, folder = model
    base = tmp_path_factory.mktemp("imported")
    inputs = ("--input", "image:float32[?,3,?,?]", "--input", "ids:int64[?,?]")
    import_model("torch", "net:make", *inputs, *ALIASES, "--output", base / "module/1", cwd=folder)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    example = (torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, dtype=torch.long))
    shapes = ({0: batch}, {0: batch, 1: length})
    torch.export.save(torch.export.export(net, example, dynamic_shapes=shapes), folder / "net.pt2")
    import_model("torch", folder / "net.pt2", *ALIASES, "--output", base / "program/1")
    return serve(start_server, base, ("module", "program"))


@pytest.mark.parametrize("name", ["module", "program"])
@pytest.mark.parametrize("batch", [1, 4])
def test_answers_are_those_of_pytorch(model, server, name, batch):
    random = numpy.random.default_rng(5)
    inputs = {
        "image": random.random((batch, 3, 8, 8), numpy.float32),
        "ids": random.integers(0, 9, (batch, 6)),
    }
    with torch.no_grad():
        logits, embedding = model[0](*(torch.from_numpy(value) for value in inputs.values()))
    expected = {"logits": logits.numpy(), "embedding": embedding.numpy()}
    check_same(predict(server, name, inputs), expected)


def test_missing_types_are_named(model, tmp_path):
    status, text = run_import(
        "torch", "net:make", "--input", "image", "--output", tmp_path / "1", cwd=model[1]
    )
    assert status == 1
    assert "--input image: its type is missing" in text


SHAPES = '''
import collections

import torch

Scores = collections.namedtuple("Scores", ["best", "rest"])


class Named(torch.nn.Module):
    """Named outputs, one of them None, one of them its input."""

    def forward(self, x, *, scale):
        y = x * scale
        return {"product": y, "nothing": None, "scores": Scores(y + 1, (y + 2, x))}


class Nested(torch.nn.Module):
    """The same without the named tuple, which a .pt2 file does not hold."""

    def forward(self, x, *, scale):
        y = x * scale
        return {"product": y, "nothing": None, "scores": {"best": y + 1, "rest": (y + 2, x)}}


class Cond(torch.nn.Module):
    """Branches that read tensors of the graph around them, and a name that an alias takes."""

    def forward(self, x, flag):
        def grow(x):
            on = x * 2
            return torch.cond(x.sum() > 10, lambda x: x + 100, lambda x: x + 1, (on,))

        return torch.cond(flag, grow, lambda x: x - 1, (x,))


class Brief(torch.nn.Module):
    """Takes and returns bfloat16."""

    def forward(self, x):
        return {"wide": x.float() * 2, "same": x, "product": x * torch.full((), 2.0, dtype=x.dtype)}


class Keyed(torch.nn.Module):
    """A dict, a keyword and constants."""

    def forward(self, batch, *, mask, bias=None, factor=1):
        return batch["a"] * factor + batch["b"] * mask


class Counted(torch.nn.Module):
    """A number among the outputs."""

    def forward(self, x):
        return {"x": x * 2, "count": 3}
'''


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """The folder of `shapes.py`, and what is in it."""
    folder = tmp_path_factory.mktemp("shapes")
    (folder / "shapes.py").write_text(SHAPES)
    names = {"__name__": "shapes"}
    exec(SHAPES, names)  # the test's own text
    return folder, names


def save(module, file, arguments, keywords=None, **options):
    torch.export.save(torch.export.export(module.eval(), arguments, keywords, **options), file)


def served(folder, start_server, *arguments, cwd):
    text = import_model("torch", *arguments, "--output", folder / "model" / "1", cwd=cwd)
    assert "agrees on" in text
    return serve(start_server, folder, ["model"])


PRODUCT = numpy.array([[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]])
NAMED = {
    "product": PRODUCT,
    "scores_best": PRODUCT + 1,
    "scores_rest_0": PRODUCT + 2,
    "scores_rest_1": PRODUCT / 2,
}


def test_names_of_outputs_and_keywords_come_from_python(shapes, tmp_path, start_server):
    folder, _ = shapes
    inputs = ("--input", "x:float32[?,3]", "--input", "scale:float32[]")
    server = served(tmp_path, start_server, "shapes:Named", *inputs, cwd=folder)
    outputs = predict(server, "model", {"x": PRODUCT / 2, "scale": numpy.float32(2)})
    check_same(outputs, NAMED)


def test_names_of_outputs_and_keywords_come_from_a_program(shapes, tmp_path, start_server):
    folder, names = shapes
    file = folder / "named.pt2"
    save(names["Nested"](), file, (torch.zeros(2, 3),), {"scale": torch.tensor(1.0)})
    server = served(tmp_path, start_server, file, cwd=folder)
    outputs = predict(server, "model", {"x": PRODUCT / 2, "scale": numpy.float32(2)})
    check_same(outputs, NAMED)


def test_dicts_keywords_and_constants_are_passed_on(shapes, tmp_path, start_server):
    folder, names = shapes
    file = folder / "keyed.pt2"
    batch = {"a": torch.zeros(2), "b": torch.zeros(2)}
    keywords = {"mask": torch.zeros(2), "bias": None, "factor": 3}
    save(names["Keyed"](), file, (batch,), keywords)
    renames = ("--rename", "batch_a=left", "--rename", "output:add=sum")
    server = served(tmp_path, start_server, file, *renames, cwd=folder)
    inputs = {"left": [1.0, 2.0], "batch_b": [10.0, 20.0], "mask": [0.0, 1.0]}
    assert predict(server, "model", inputs) == [3.0, 26.0]


def test_branches_read_renamed_inputs(shapes, tmp_path, start_server):
    folder, names = shapes
    file = folder / "cond.pt2"
    save(names["Cond"](), file, (torch.zeros(2), torch.tensor(True)))
    aliases = ("--input", "image", "--input", "on")
    server = served(tmp_path, start_server, file, *aliases, cwd=folder)
    for image, on, expected in (
        ([1.5, 3.0], True, [4.0, 7.0]),
        ([1.5, 30.0], True, [103.0, 160.0]),
        ([1.5, 3.0], False, [0.5, 2.0]),
    ):
        assert predict(server, "model", {"image": image, "on": on}) == expected


@pytest.mark.parametrize("source", ["program", "module"])
def test_bfloat16_is_served(shapes, tmp_path, start_server, source):
    folder, names = shapes
    arguments = ("shapes:Brief", "--input", "x:bfloat16[?]")
    if source == "program":
        save(names["Brief"](), folder / "brief.pt2", (torch.zeros(2, dtype=torch.bfloat16),))
        arguments = (folder / "brief.pt2",)
    server = served(tmp_path, start_server, *arguments, cwd=folder)
    # TensorFlow and PyTorch cannot be loaded into the same process.
    command = [sys.executable, "-c", BFLOAT16_CLIENT, server.grpc_address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    float_type, bfloat16 = 1, 14
    assert json.loads(done.stdout) == {
        "wide": [float_type, [3.0, -4.0], []],
        "same": [bfloat16, [], [0x3FC0, 0xC000]],
        "product": [bfloat16, [], [0x4040, 0xC080]],
    }


# 1.5 and -2 in bfloat16: the upper halves of the floats.
BFLOAT16_CLIENT = """
import json, sys, grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

request = predict_pb2.PredictRequest()
request.model_spec.name = "model"
x = request.inputs["x"]
x.dtype = 14
x.tensor_shape.dim.add(size=2)
x.half_val.extend([0x3FC0, 0xC000])
with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    outputs = stub.Predict(request, timeout=60).outputs
print(json.dumps({a: [it.dtype, list(it.float_val), list(it.half_val)] for a, it in outputs.items()}))
"""


def test_outputs_that_are_no_tensors_are_refused(shapes, tmp_path):
    folder, _ = shapes
    status, text = run_import(
        "torch", "shapes:Counted", "--input", "x:float32[2]", "--output", tmp_path / "1", cwd=folder
    )
    assert status == 1
    assert "the model returns count as int" in text
    assert not (tmp_path / "1").exists()


def test_model_that_refuses_the_inputs_is_not_written(tmp_path):
    """What was not compared is not known to be right."""
    (tmp_path / "picky.py").write_text(
        "import torch\n\n\nclass Picky(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        if not torch.compiler.is_compiling() and x.sum() != 0:\n"
        "            raise ValueError('not this one')\n"
        "        return x * 2\n"
    )
    arguments = ("torch", "picky:Picky", "--input", "x:float32[3]", "--output", tmp_path / "1")
    status, text = run_import(*arguments, cwd=tmp_path)
    assert status == 1
    assert "NOT COMPARED" in text and "not this one" in text
    assert not (tmp_path / "1").exists()
    numpy.savez(tmp_path / "zeros.npz", x=numpy.zeros(3, numpy.float32))
    text = import_model(*arguments, "--samples", tmp_path / "zeros.npz", cwd=tmp_path)
    assert "agrees on x" in text
