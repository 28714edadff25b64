//! Edits that are left out because a backend refuses the graph with them.

use super::net::{FLOAT, INT32, Net, answer};
use super::*;
use base::error::ServingError;
use onnx::OnnxModel;
use runtime::{Graph, GraphSource};

/// ONNX Runtime without kernels for these operators.
struct Without(&'static [&'static str]);

impl Backend for Without {
    fn name(&self) -> &'static str {
        "a test's"
    }

    fn version(&self) -> String {
        backend().version()
    }

    fn advice(&self, error: &ServingError, producer: &str) -> Option<String> {
        backend().advice(error, producer)
    }

    fn may_end_the_process(&self) -> bool {
        true
    }

    fn load(&self, source: GraphSource) -> Result<Arc<dyn Graph>> {
        let model = OnnxModel::parse("edited", &source.model)?;
        match model
            .operators()
            .iter()
            .find(|it| self.0.contains(&it.as_str()))
        {
            Some(refused) => Err(ServingError::unimplemented(format!(
                "no kernel for {refused}"
            ))),
            None => backend().load(source),
        }
    }
}

fn load_without(operators: &'static [&'static str], net: Net) -> Result<Servable> {
    let version = net.version();
    let loader = loader(Arc::new(Without(operators)));
    loader.load(&ServableId::new("model", 1), &version.path)
}

fn quotient() -> Net {
    Net::default()
        .input("a", INT32, &[-1])
        .input("b", INT32, &[-1])
        .node("Div", &["a", "b"], "q")
        .output("q", INT32, &[-1])
}

fn ints(values: &[i32]) -> Tensor {
    Tensor::from_vec(&[values.len()], values.to_vec()).unwrap()
}

#[test]
fn edit_that_is_refused_is_left_out() {
    // Safe divisions of a known type use Equal; those of an unknown type do not.
    let servable = load_without(&["Equal"], quotient()).unwrap();
    let (a, b) = (ints(&[i32::MIN, 7]), ints(&[-1, 2]));
    let outputs = answer(&servable, "", [("a", a), ("b", b)]);
    assert_eq!(outputs["q"], ints(&[i32::MIN, 3]));
}

#[test]
fn edit_that_protects_the_process_is_never_left_out() {
    // All safe divisions use Where.
    let refused = load_without(&["Where"], quotient()).err();
    let error = refused.expect("it is refused").to_string();
    assert!(error.contains("no kernel for Where"), "{error}");
    // Empty images end the process, so a check comes first.
    let net = || {
        Net::default()
            .input("x", FLOAT, &[-1, 1, -1])
            .initializer("w", &[1], &[1.0])
            .node("InstanceNormalization", &["x", "w", "w"], "y")
            .output("y", FLOAT, &[-1, 1, -1])
    };
    assert!(load_without(&[], net()).is_ok());
    let refused = load_without(&["Reshape"], net()).err();
    let error = refused.expect("it is refused").to_string();
    assert!(error.contains("no kernel for Reshape"), "{error}");
}

#[test]
fn graph_that_is_refused_as_it_is_stays_refused() {
    let loaded = load_without(&["Div"], quotient());
    let error = loaded.err().expect("it is refused");
    assert!(error.to_string().contains("no kernel for Div"), "{error}");
}

/// `y = x + w`, with every `~` of the file replaced by a byte that is not UTF-8.
#[test]
fn weights_may_lie_in_a_file_whose_name_is_not_utf8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use proto::onnx::{StringStringEntryProto, TensorProto};

    let mut net = Net::default()
        .input("x", INT32, &[-1])
        .node("Add", &["x", "w~"], "y")
        .output("y", INT32, &[-1]);
    net.graph.initializer.push(TensorProto {
        name: Some("w~".to_owned()),
        dims: vec![2],
        data_type: Some(INT32),
        data_location: Some(1),
        external_data: vec![StringStringEntryProto {
            key: Some("location".to_owned()),
            value: Some("data~".to_owned()),
        }],
        ..TensorProto::default()
    });
    let version = net.version();
    let file = version.path.join("model.onnx");
    let mut bytes = std::fs::read(&file).unwrap();
    for byte in bytes.iter_mut().filter(|byte| **byte == b'~') {
        *byte = 0xe9;
    }
    std::fs::write(file, bytes).unwrap();
    let data = [5_i32, 7].map(i32::to_le_bytes).concat();
    std::fs::write(version.path.join(OsStr::from_bytes(b"data\xe9")), data).unwrap();
    let outputs = answer(&version.load(), "", [("x", ints(&[1, 2]))]);
    assert_eq!(outputs["y"], ints(&[6, 9]));
}
