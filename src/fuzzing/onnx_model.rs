//! ONNX files. The first byte chooses the files next to it, the rest is the file.

use super::version::{self, File};

macro_rules! zoo {
    ($path:literal) => {
        include_bytes!(concat!("../../tests/data/zoo/", $path)).as_slice()
    };
}

/// Signatures that exercise all edits: aliases by order and by name, several on one graph, examples,
/// labels, casts, transposes.
pub(super) const COMPANIONS: &[&[File]] = &[
    &[],
    &[("saved_model.pb", zoo!("keyed/1/saved_model.pb"))],
    &[("saved_model.pb", zoo!("half_plus_two.cut/1/saved_model.pb"))],
    &[("saved_model.pb", zoo!("sklearn_zipmap/1/saved_model.pb"))],
    &[("saved_model.pb", zoo!("text_split/1/saved_model.pb"))],
    &[("signature_map.pbtxt", EVERY_EDIT)],
    &[
        (
            "saved_model.pb",
            zoo!("torch_resnet.dynamo_no_names/1/saved_model.pb"),
        ),
        ("model.onnx.data", &[0; 1024]),
    ],
];

const EVERY_EDIT: &[u8] = br#"
signature {
  input { alias: "a" tensor: "x" dtype: DT_DOUBLE transpose: [1, 0] }
  output { alias: "b" tensor: "y" dtype: DT_FLOAT reshape: [-1, 1] }
}
signature {
  name: "classify"
  method_name: "tensorflow/serving/classify"
  example_input { alias: "inputs" feature { key: "x" dtype: DT_FLOAT shape { dim { size: 1 } } tensor: "x" } }
  output { alias: "scores" tensor: "y" labels { label: "no" label: "yes" } top_k: 1 }
}
signature { name: "constant" constant { tensor: "x" value { dtype: DT_FLOAT tensor_shape { dim { size: 1 } } float_val: 2 } } }
"#;

/// Loads a version with this file.
pub fn check(data: &[u8]) {
    let Some((&selector, file)) = data.split_first() else {
        return;
    };
    let companions = COMPANIONS[usize::from(selector) % COMPANIONS.len()];
    version::load(companions, ("model.onnx", file));
}
