"""PyTorch models: imported, served, and answering as PyTorch itself does."""

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
