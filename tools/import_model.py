#!/usr/bin/env python3
"""Makes a version directory for onnx_model_server out of a trained model.

    import_model.py saved_model DIRECTORY --output BASE_PATH/VERSION
    import_model.py keras FILE.keras --output BASE_PATH/VERSION
    import_model.py torch FILE.pt2 --output BASE_PATH/VERSION
    import_model.py torch MODULE:FUNCTION --input 'image:float32[?,3,224,224]' --output ...

Every signature becomes ONNX and is run against the original on random inputs; the largest
difference is printed. Nothing is written unless every signature loads in ONNX Runtime and agrees.

Runs where the model was trained, or anywhere else with `import_requirements.txt` installed. See
docs/importing.md. The work is done by the modules in model_import/, which lie beside this file.
"""

import argparse
import os
import pathlib
import sys
import tempfile

# TensorFlow reads these when it is imported, which the modules do as late as they can.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# The official builds of ONNX Runtime report their use otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Others are imported once their packages are known to be there.
from model_import.errors import ImportFailed
from model_import.packages import check_packages
from model_import.sources import check_exists, check_source


def main():
    arguments = parse_arguments()
    try:
        check_source(arguments.command, arguments.source)
        check_packages(arguments.command)
        check_exists(arguments.command, arguments.source)
        from model_import.version_directory import check_output, write_version

        check_output(arguments.output, in_place_of=source_directory(arguments))
        with tempfile.TemporaryDirectory() as scratch:
            imported = convert(arguments, pathlib.Path(scratch))
            rename(imported, arguments.rename)
            check(imported, arguments)
            files = write_version(imported, arguments.output)
    except ImportFailed as error:
        print(f"import_model.py: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"import_model.py: a Python package does not load: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a folder that cannot be written, or a full disk
        print(f"import_model.py: {error}", file=sys.stderr)
        return 1
    print(f"wrote {', '.join(files)} into {arguments.output}")
    return 0


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        epilog="The whole story: docs/importing.md",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    saved_model = commands.add_parser("saved_model", help="a TensorFlow SavedModel")
    saved_model.add_argument("source", type=pathlib.Path, metavar="DIRECTORY")
    saved_model.add_argument(
        "--tag_set", default="serve", help="tags of the meta graph, comma-separated"
    )
    keras = commands.add_parser("keras", help="a Keras model (.keras, .h5)")
    keras.add_argument("source", type=pathlib.Path, metavar="FILE")
    keras.add_argument(
        "--allow_lambda",
        action="store_true",
        help="run the Python code of Lambda layers that is in the file; it can do anything, so only "
        "for files that you trust (Keras's safe_mode=False)",
    )
    keras.add_argument(
        "--import_module",
        action="append",
        default=[],
        metavar="MODULE",
        help="a Python module of the current directory, or installed, that defines layers of your "
        "own, decorated with @keras.saving.register_keras_serializable(); any number of times",
    )
    torch = commands.add_parser("torch", help="a PyTorch model")
    torch.add_argument(
        "source",
        metavar="FILE.pt2|MODULE:NAME",
        help="what torch.export.save wrote, or a module or function of a Python module on the "
        "path that is, or returns, an nn.Module",
    )
    torch.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="ALIAS:DTYPE[DIMS]",
        help="an input, `?` for a dim of any size: under the name of one of the model's arguments, in "
        "any order, or all of them under names of your own, in the order of the arguments; for a .pt2, "
        "which knows its shapes, ALIAS alone will do",
    )
    torch.add_argument(
        "--output_alias", action="append", default=[], metavar="ALIAS", help="likewise, an output"
    )
    for command in (saved_model, keras, torch):
        command.add_argument(
            "--output",
            type=pathlib.Path,
            required=True,
            metavar="BASE_PATH/VERSION",
            help="the version directory to make; for a SavedModel it may be the SavedModel itself",
        )
        command.add_argument(
            "--rename",
            action="append",
            default=[],
            metavar="OLD=NEW",
            help="another alias for an input or output; any number of times. OLD may be "
            "input:ALIAS, output:ALIAS, and either with SIGNATURE: in front; without, it is renamed "
            "in every signature that has it",
        )
        command.add_argument(
            "--samples",
            type=pathlib.Path,
            metavar="FILE.npz",
            help="inputs by alias (the new ones of --rename) to compare on, instead of random ones",
        )
        command.add_argument(
            "--allow_differences",
            action="store_true",
            help="write the files even if the answers differ (sampling, say, is random) or could "
            "not be compared",
        )
    for command in (saved_model, keras):
        command.add_argument("--opset", type=int, default=17, help="ONNX opset (default: 17)")
    return parser.parse_args()


def source_directory(arguments):
    return arguments.source if arguments.command == "saved_model" else None


def convert(arguments, scratch):
    if arguments.command == "torch":
        from model_import.torch_model import from_torch

        return from_torch(arguments.source, arguments.input, arguments.output_alias, scratch)

    from model_import.saved_model import export_keras, from_saved_model

    directory, tags = arguments.source, ["serve"]
    if arguments.command == "keras":
        directory = export_keras(
            arguments.source, scratch, arguments.allow_lambda, arguments.import_module
        )
    else:
        tags = arguments.tag_set.split(",")
    return from_saved_model(directory, tags, arguments.opset)


def rename(imported, texts):
    if texts:
        from model_import.renaming import rename as rename_aliases

        rename_aliases(imported, texts)


def check(imported, arguments):
    """Loads every graph and runs it against the original; prints how that went."""
    from model_import.comparison import compare, read_samples
    from model_import.runnable import check_loads

    samples = read_samples(arguments.samples)
    differ = []
    for signature in imported.signatures:
        session = check_loads(signature)
        if session is None:
            print(f"{signature.name}: loads; not compared, since the server parses its examples")
            continue
        result = compare(signature, session, samples)
        print(f"{signature.name}: {result.text}")
        if not result.agrees:
            differ.append(signature.name)
    if differ and not arguments.allow_differences:
        raise ImportFailed(
            "ONNX Runtime's answers differ from the model's, or were not compared: "
            f"{', '.join(differ)}. Nothing was written; --samples compares on inputs of your own, --allow_differences writes anyway"
        )


if __name__ == "__main__":
    sys.exit(main())
