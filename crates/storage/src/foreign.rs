//! Files that are not ONNX models: their formats, and how to get an ONNX model from them.
//!
//! A version directory can contain anything: the file of another library, a failed download, an archive.
//! Contents count before names, because names are often wrong.
//!
//! Not here: which files of a directory are examined (`absent`), reading ONNX (`onnx`).

mod contents;
mod names;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::contents::{MAX_HEAD, MAX_TAIL, Sample, of_contents};
pub use self::names::{is_unfinished_onnx, of_name};

/// A kind of file that this server cannot load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after its format")]
pub enum Foreign {
    Empty,
    Zeros,
    CutOff,
    GitLfsPointer,
    GitAnnexPointer,
    Html,
    Xml,
    Json,
    Text,
    Unfinished,
    OnnxOtherName,
    OnnxText,
    OnnxPrinted,
    OnnxJson,
    OnnxWeights,
    OrtFormat,
    SavedModel,
    SavedModelSplit,
    SavedModelText,
    FrozenGraph,
    Checkpoint,
    TensorFlowJs,
    TfLite,
    Keras,
    Hdf5,
    KerasWeights,
    TorchExport,
    Torch,
    Pickle,
    Safetensors,
    Gguf,
    NumPy,
    XgBoost,
    LightGbm,
    CatBoost,
    CoreMl,
    OpenVino,
    OpenVinoWeights,
    TensorRt,
    Pmml,
    Paddle,
    Mxnet,
    Caffe,
    Darknet,
    Ncnn,
    Skops,
    Mojo,
    Dlc,
    Archive,
    Executable,
}

impl Foreign {
    /// Whether such a file can take the place of a file of any kind by accident.
    pub fn stands_in(self) -> bool {
        matches!(
            self,
            Self::Empty | Self::GitLfsPointer | Self::GitAnnexPointer | Self::Html
        )
    }

    /// The format of a file, from the format suggested by its name (`self`) and that of its contents. The
    /// name wins over contents that many formats have in common, unless they contradict it.
    pub fn or_by_contents(self, contents: Self) -> Self {
        match (self, contents) {
            // The part that has arrived can look like anything.
            (Self::Unfinished, _) => self,
            (Self::CoreMl, Self::CutOff | Self::SavedModel)
            | (Self::Keras | Self::KerasWeights, Self::Hdf5)
            | (Self::Torch, Self::Pickle)
            | (Self::Skops, Self::NumPy) => self,
            (_, Self::CutOff) => Self::OnnxOtherName,
            (Self::OnnxOtherName, contents) => contents,
            (_, Self::Archive) => self,
            (name, Self::Text | Self::Json | Self::Xml) if name.may_be_text() => name,
            (_, contents) => contents,
        }
    }

    fn may_be_text(self) -> bool {
        matches!(
            self,
            Self::OnnxText
                | Self::OnnxPrinted
                | Self::OnnxJson
                | Self::SavedModel
                | Self::SavedModelText
                | Self::Checkpoint
                | Self::XgBoost
                | Self::Pmml
                | Self::Caffe
                | Self::Ncnn
        )
    }

    /// Whether another file in the directory might be a model that tells more.
    pub fn is_weights(self) -> bool {
        matches!(
            self,
            Self::OpenVinoWeights
                | Self::OnnxWeights
                | Self::Safetensors
                | Self::Checkpoint
                | Self::KerasWeights
        )
    }

    /// The name of the format, with its article.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Empty => "an empty file",
            Self::Zeros => "a file of zeros",
            Self::CutOff => "the beginning of one: the file ends too early",
            Self::GitLfsPointer => "a Git LFS pointer, which stands for a file",
            Self::GitAnnexPointer => "a git-annex pointer, which stands for a file",
            Self::Html => "an HTML page",
            Self::Xml => "an XML file",
            Self::Json => "a JSON file",
            Self::Text => "a text file",
            Self::Unfinished => "probably an unfinished download or copy",
            Self::OnnxOtherName => "an ONNX model whose name does not end in .onnx",
            Self::OnnxText => "an ONNX model in protobuf's text format",
            Self::OnnxPrinted => "an ONNX model in ONNX's own text form (.onnxtxt)",
            Self::OnnxJson => "an ONNX model in JSON",
            Self::OnnxWeights => "the weights of an ONNX model, without the model",
            Self::OrtFormat => "a model in ONNX Runtime's own format (.ort)",
            Self::SavedModel => "a TensorFlow SavedModel",
            Self::SavedModelSplit => "a TensorFlow SavedModel split into several messages (.cpb)",
            Self::SavedModelText => "a TensorFlow SavedModel in protobuf's text format",
            Self::FrozenGraph => "a frozen TensorFlow graph",
            Self::Checkpoint => "a TensorFlow checkpoint: weights without a graph",
            Self::TensorFlowJs => "a TensorFlow.js model",
            Self::TfLite => "a TensorFlow Lite model",
            Self::Keras => "a Keras model",
            Self::Hdf5 => "an HDF5 file, such as a Keras model (.h5)",
            Self::KerasWeights => "a file of Keras weights, without a graph",
            Self::TorchExport => "a PyTorch program of torch.export (.pt2)",
            Self::Torch => "a PyTorch file (.pt, .pth): TorchScript, or weights without a graph",
            Self::Pickle => "a Python pickle, such as a scikit-learn model (.pkl, .joblib)",
            Self::Safetensors => "a safetensors file: weights without a graph",
            Self::Gguf => "a GGUF file, the format of llama.cpp",
            Self::NumPy => "a file of NumPy arrays",
            Self::XgBoost => "an XGBoost model",
            Self::LightGbm => "a LightGBM model",
            Self::CatBoost => "a CatBoost model",
            Self::CoreMl => "a Core ML model",
            Self::OpenVino => "an OpenVINO model (.xml with .bin)",
            Self::OpenVinoWeights => "a file of weights without a graph",
            Self::TensorRt => "a TensorRT engine",
            Self::Pmml => "a PMML model",
            Self::Paddle => "a PaddlePaddle model",
            Self::Mxnet => "an MXNet model",
            Self::Caffe => "a Caffe model",
            Self::Darknet => "a Darknet model",
            Self::Ncnn => "an ncnn or MNN model",
            Self::Skops => "a scikit-learn model (.skops)",
            Self::Mojo => "an H2O MOJO",
            Self::Dlc => "a Qualcomm DLC",
            Self::Archive => "a compressed file or an archive",
            Self::Executable => "a program or a shared library",
        }
    }

    /// The advice to the user: a sentence without its full stop. Long, because it has one for each kind.
    fn way_out(self) -> &'static str {
        match self {
            Self::Empty | Self::Zeros | Self::CutOff => {
                "Copying it has failed or has not ended: copy it again and compare the sizes"
            }
            Self::GitLfsPointer => {
                "Run `git lfs pull` in the clone it is from, then copy the file again"
            }
            Self::GitAnnexPointer => {
                "Run `git annex get` in the clone it is from, then copy the file again"
            }
            Self::Html => {
                "A download got an error or sign-in page instead of the file: download it again by \
                 the address of the file itself"
            }
            Self::Xml | Self::Json | Self::Text => {
                "If it was downloaded, it might be an error message: look into it, and download the \
                 model again"
            }
            Self::Unfinished => {
                "Wait until it has ended, or download or copy the file again; renaming it makes no \
                 whole file of it"
            }
            Self::OnnxOtherName => "Rename it to model.onnx",
            Self::OnnxText => {
                "Make a binary file of it in Python: onnx.save(onnx.load(FILE, format=\"textproto\"), \
                 \"model.onnx\")"
            }
            Self::OnnxPrinted => {
                "Make a binary file of it in Python: onnx.save(onnx.load(FILE, format=\"onnxtxt\"), \
                 \"model.onnx\")"
            }
            Self::OnnxJson => {
                "Make a binary file of it in Python: onnx.save(onnx.load(FILE, format=\"json\"), \
                 \"model.onnx\")"
            }
            Self::OnnxWeights => "Put the *.onnx file that belongs to it into the same directory",
            Self::OrtFormat => "Serve the *.onnx file that it was made from",
            Self::SavedModel => {
                "The server reads SavedModels in the binary form, with the name saved_model.pb: \
                 docs/importing.md"
            }
            Self::SavedModelSplit => {
                "Save the model again as one message: without experimental_image_format in \
                 tf.saved_model.SaveOptions"
            }
            Self::SavedModelText => {
                "Make a binary file of it in Python: google.protobuf.text_format.Parse(open(FILE).read(), \
                 tensorflow.core.protobuf.saved_model_pb2.SavedModel()).SerializeToString() is the contents of \
                 saved_model.pb"
            }
            Self::FrozenGraph => {
                "Convert it where TensorFlow is installed: `python3 -m tf2onnx.convert --graphdef \
                 FILE --inputs NAME:0 --outputs NAME:0 --output model.onnx`"
            }
            Self::Checkpoint => {
                "Export a SavedModel from the program that made it, and serve that: \
                 docs/importing.md"
            }
            Self::TensorFlowJs => "Serve the SavedModel that it was made from: docs/importing.md",
            Self::TfLite => {
                "Convert it where TensorFlow is installed: `python3 -m tf2onnx.convert --tflite FILE \
                 --output model.onnx`"
            }
            Self::Keras => {
                "Convert it where Keras is installed: `import_model.py keras FILE`, see \
                 docs/importing.md"
            }
            Self::Hdf5 => {
                "If it is a whole Keras model, convert it where Keras is installed: `import_model.py \
                 keras FILE`, see docs/importing.md"
            }
            Self::KerasWeights => {
                "Load them into the model in the program that builds it (model.load_weights), save the \
                 whole model (model.save(\"model.keras\")), and convert that: docs/importing.md"
            }
            Self::TorchExport => {
                "Convert it where PyTorch is installed: `import_model.py torch FILE`, see \
                 docs/importing.md"
            }
            Self::Torch => {
                "Convert the module in the program that has its class: torch.onnx.export, or \
                 `import_model.py torch`, see docs/importing.md"
            }
            Self::Pickle => {
                "Convert it in Python: skl2onnx for scikit-learn, onnxmltools for XGBoost and \
                 LightGBM, torch.onnx.export for PyTorch"
            }
            Self::Safetensors | Self::OpenVinoWeights | Self::NumPy => {
                "Export the model from the library that has its graph, for instance by \
                 torch.onnx.export or optimum"
            }
            Self::Gguf => "Export the model that it was made from to ONNX, for instance by optimum",
            Self::XgBoost | Self::LightGbm => "Convert it in Python by onnxmltools",
            Self::CatBoost => {
                "Convert it in Python: model.save_model(\"model.onnx\", format=\"onnx\")"
            }
            Self::Paddle => "Convert it by paddle2onnx",
            Self::CoreMl
            | Self::OpenVino
            | Self::TensorRt
            | Self::Pmml
            | Self::Mxnet
            | Self::Caffe
            | Self::Darknet
            | Self::Ncnn
            | Self::Mojo
            | Self::Dlc => "Export the model that it was made from to ONNX",
            Self::Skops => "Convert it in Python by skl2onnx",
            Self::Archive => "If an ONNX model is in it, unpack that into the version directory",
            Self::Executable => "Put the *.onnx file of the model into the version directory",
        }
    }
}

/// The noun and, as a sentence of its own, the advice.
impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.noun(), self.way_out())
    }
}
