//! `signature_map.pbtxt`. The first byte chooses the graphs, the rest is the map.

use super::version::{self, File};

macro_rules! data {
    ($path:literal) => {
        include_bytes!(concat!("../../tests/data/", $path)).as_slice()
    };
}

pub(super) const GRAPHS: &[&[File]] = &[
    &[("model.onnx", data!("zoo/keyed/1/model.onnx"))],
    &[
        (
            "serving_default.onnx",
            data!("golden/models/ex_cut/1/serving_default.onnx"),
        ),
        ("predict.onnx", data!("golden/models/ex_cut/1/predict.onnx")),
    ],
    &[
        ("model.onnx", data!("zoo/sklearn_zipmap/1/model.onnx")),
        ("labels.txt", b"setosa\nversicolor\nvirginica\n"),
    ],
    &[
        ("model.onnx", data!("zoo/text_split/1/model.onnx")),
        ("saved_model.pb", data!("zoo/text_split/1/saved_model.pb")),
    ],
    &[(
        "regress_x_to_y.onnx",
        data!("zoo/half_plus_two/1/regress_x_to_y.onnx"),
    )],
];

/// Loads a version with this map.
pub fn check(data: &[u8]) {
    let Some((&selector, map)) = data.split_first() else {
        return;
    };
    let graphs = GRAPHS[usize::from(selector) % GRAPHS.len()];
    version::load(graphs, ("signature_map.pbtxt", map));
}
