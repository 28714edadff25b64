//! The format of a file according to its name.

use super::Foreign;

/// Formats by the end of the name, in lower case. The first match counts.
const ENDINGS: &[(&str, Foreign)] = &[
    ("saved_model.pb", Foreign::SavedModel),
    ("saved_model.pbtxt", Foreign::SavedModelText),
    ("saved_model.cpb", Foreign::SavedModelSplit),
    (".onnx.data", Foreign::OnnxWeights),
    (".onnx_data", Foreign::OnnxWeights),
    (".onnx", Foreign::OnnxOtherName),
    (".onnxtxt", Foreign::OnnxPrinted),
    (".onnxtext", Foreign::OnnxPrinted),
    (".onnxjson", Foreign::OnnxJson),
    (".textproto", Foreign::OnnxText),
    (".ort", Foreign::OrtFormat),
    (".keras", Foreign::Keras),
    (".h5", Foreign::Hdf5),
    (".hdf5", Foreign::Hdf5),
    (".tflite", Foreign::TfLite),
    (".lite", Foreign::TfLite),
    (".pb", Foreign::FrozenGraph),
    (".ckpt", Foreign::Checkpoint),
    (".index", Foreign::Checkpoint),
    (".data-00000-of-00001", Foreign::Checkpoint),
    (".meta", Foreign::Checkpoint),
    (".pt2", Foreign::TorchExport),
    (".pt", Foreign::Torch),
    (".pth", Foreign::Torch),
    (".torchscript", Foreign::Torch),
    (".mar", Foreign::Torch),
    (".pkl", Foreign::Pickle),
    (".pickle", Foreign::Pickle),
    (".joblib", Foreign::Pickle),
    (".safetensors", Foreign::Safetensors),
    (".gguf", Foreign::Gguf),
    (".ggml", Foreign::Gguf),
    (".npz", Foreign::NumPy),
    (".npy", Foreign::NumPy),
    (".ubj", Foreign::XgBoost),
    (".xgb", Foreign::XgBoost),
    (".bst", Foreign::XgBoost),
    (".cbm", Foreign::CatBoost),
    (".mlmodel", Foreign::CoreMl),
    (".mlpackage", Foreign::CoreMl),
    (".mlmodelc", Foreign::CoreMl),
    (".engine", Foreign::TensorRt),
    (".plan", Foreign::TensorRt),
    (".trt", Foreign::TensorRt),
    (".pmml", Foreign::Pmml),
    (".pdmodel", Foreign::Paddle),
    (".pdiparams", Foreign::Paddle),
    (".params", Foreign::Mxnet),
    (".caffemodel", Foreign::Caffe),
    (".prototxt", Foreign::Caffe),
    (".weights", Foreign::Darknet),
    (".mnn", Foreign::Ncnn),
    (".param", Foreign::Ncnn),
    (".skops", Foreign::Skops),
    (".mojo", Foreign::Mojo),
    (".dlc", Foreign::Dlc),
    (".zip", Foreign::Archive),
    (".gz", Foreign::Archive),
    (".tgz", Foreign::Archive),
    (".tar", Foreign::Archive),
    (".bz2", Foreign::Archive),
    (".xz", Foreign::Archive),
    (".zst", Foreign::Archive),
    (".7z", Foreign::Archive),
    (".rar", Foreign::Archive),
    (".xml", Foreign::Xml),
    (".bin", Foreign::OpenVinoWeights),
];

/// Endings that programs append to a file's name, or use instead of its own, until the file is complete.
const UNFINISHED: &[&str] = &[
    ".part",
    ".partial",
    ".filepart",
    ".crdownload",
    ".opdownload",
    ".download",
    ".downloading",
    ".incomplete",
    ".unfinished",
    ".aria2",
    ".tmp",
    ".temp",
];

/// Whether a file of this name is an incomplete ONNX model.
pub fn is_unfinished_onnx(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut endings = UNFINISHED.iter();
    let stem = endings.find_map(|ending| name.strip_suffix(ending));
    stem.is_some_and(|stem| stem.ends_with(".onnx"))
}

/// The probable format of a file of this name; `None` for a name that says nothing.
pub fn of_name(name: &str) -> Option<Foreign> {
    // Parts of a SavedModel, which say nothing on their own.
    if matches!(name, "fingerprint.pb" | "keras_metadata.pb") {
        return None;
    }
    let name = name.to_ascii_lowercase();
    if UNFINISHED.iter().any(|ending| name.ends_with(ending)) {
        return Some(Foreign::Unfinished);
    }
    let is_hdf5 = name.ends_with(".h5") || name.ends_with(".hdf5");
    if is_hdf5 && name.contains("weights") {
        return Some(Foreign::KerasWeights);
    }
    let ending = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending));
    ending.map(|(_, foreign)| *foreign)
}
