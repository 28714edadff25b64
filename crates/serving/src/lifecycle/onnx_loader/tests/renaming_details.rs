//! Maps that change the alias of a tensor: its dtype, transpose, default and description go with it.

use super::net::{FLOAT, INT64, Net, Version, floats, floats_def};
use super::renaming_again::{integers, outputs_of, pair, signature, values};
use super::*;

/// gc = -ga of float, gd = -gb of int64, with the aliases a to d in the SavedModel.
fn two_types(map: &str) -> Version {
    let net = Net::default()
        .input("ga", FLOAT, &[-1])
        .input("gb", INT64, &[-1])
        .node("Neg", &["ga"], "gc")
        .node("Neg", &["gb"], "gd")
        .output("gc", FLOAT, &[-1])
        .output("gd", INT64, &[-1]);
    let mut definition = floats_def(
        &[("a", "ga:0"), ("b", "gb:0")],
        &[("c", "gc:0"), ("d", "gd:0")],
    );
    let int64 = DataType::Int64.number();
    definition.inputs.get_mut("b").unwrap().dtype = int64;
    definition.outputs.get_mut("d").unwrap().dtype = int64;
    net.version()
        .original(&[("serving_default", definition)])
        .map(&signature(map))
}

/// 2^53 + 1 does not fit a double or a float.
#[test]
fn original_aliases_that_change_places_are_described_as_their_tensors() {
    let large = (1_i64 << 53) + 1;
    for (map, [a, b], expected) in [
        (
            "output { alias: 'c' tensor: 'gd' } output { alias: 'd' tensor: 'gc' }",
            ["a", "b"],
            ["d", "c"],
        ),
        (
            "output { alias: 'c' tensor: 'd' } output { alias: 'd' tensor: 'c' }",
            ["a", "b"],
            ["d", "c"],
        ),
        (
            "output { alias: 'c' tensor: 'gd' } output { alias: 'n' tensor: 'gc' }",
            ["a", "b"],
            ["n", "c"],
        ),
        (
            "output { alias: 'd' tensor: 'gc' } output { alias: 'e' tensor: 'gd' }",
            ["a", "b"],
            ["d", "e"],
        ),
        (
            "input { alias: 'a' tensor: 'gb' } input { alias: 'b' tensor: 'ga' }",
            ["b", "a"],
            ["c", "d"],
        ),
        (
            "input { alias: 'b' tensor: 'ga' } input { alias: 'e' tensor: 'gb' }",
            ["b", "e"],
            ["c", "d"],
        ),
    ] {
        let version = two_types(map);
        let inputs = [(a, floats(&[1], &[1.0])), (b, integers(&[large]))];
        let outputs = outputs_of(&version, &inputs);
        let [of_float, of_int64] = expected;
        assert_eq!(outputs[of_float], floats(&[1], &[-1.0]), "{map}");
        assert_eq!(outputs[of_int64], integers(&[-large]), "{map}");
        assert_eq!(outputs.len(), 2, "{map}");
        let servable = version.load();
        let infos = &servable.definitions()["serving_default"].outputs;
        let name = |alias: &str| mapper::signature::tensor_name(&infos[alias]).to_owned();
        assert_eq!([name(of_float), name(of_int64)], ["gc:0", "gd:0"], "{map}");
    }
}

/// The fields that a map below sets for a tensor go with the tensor.
#[test]
fn dtypes_transposes_and_defaults_go_with_the_tensor() {
    let net = || {
        let default = "default { dtype: DT_DOUBLE tensor_shape { dim { size: 1 } dim { size: 2 } }
            double_val: 7 double_val: 8 }";
        Net::default()
            .input("a", FLOAT, &[-1, 2])
            .input("b", FLOAT, &[-1, 2])
            .node("Neg", &["a"], "c")
            .node("Identity", &["b"], "d")
            .output("c", FLOAT, &[-1, 2])
            .output("d", FLOAT, &[-1, 2])
            .metadata(&signature(&format!(
                "input {{ alias: 'x' tensor: 'a' dtype: DT_DOUBLE {default} }}
                 input {{ alias: 'y' tensor: 'b' }}
                 output {{ alias: 'u' tensor: 'c' dtype: DT_DOUBLE transpose: 1 transpose: 0 }}
                 output {{ alias: 'v' tensor: 'd' }}"
            )))
            .version()
    };
    let turned = Tensor::from_vec(&[2, 1], vec![-7.0f64, -8.0]).unwrap();
    for (map, y, [u, v]) in [
        (
            "output { alias: 'u' tensor: 'v' } output { alias: 'v' tensor: 'u' }
             input { alias: 'x' tensor: 'y' } input { alias: 'y' tensor: 'x' }",
            "x",
            ["v", "u"],
        ),
        (
            "output { alias: 'u' tensor: 'd' } output { alias: 'v' tensor: 'c' }
             input { alias: 'x' tensor: 'b' } input { alias: 'y' tensor: 'a' }",
            "x",
            ["v", "u"],
        ),
        (
            "output { alias: 'u' tensor: 'v' } output { alias: 'w' tensor: 'u' }
             input { alias: 'x' tensor: 'y' } input { alias: 'z' tensor: 'x' }",
            "x",
            ["w", "u"],
        ),
        ("output { alias: 'w' tensor: 'c' }", "y", ["w", "v"]),
        ("output { alias: 'u' }", "y", ["u", "v"]),
    ] {
        let version = net().map(&signature(map));
        let outputs = outputs_of(&version, &[(y, floats(&[1, 2], &[3.0, 4.0]))]);
        assert_eq!(outputs[u], turned, "{map}");
        assert_eq!(outputs[v], floats(&[1, 2], &[3.0, 4.0]), "{map}");
        assert_eq!(outputs.len(), 2, "{map}");
    }
}

#[test]
fn defaults_of_saved_model_go_with_the_tensor() {
    let mut definition = floats_def(&[("x", "a:0"), ("f", "b:0")], &[("c", "c:0"), ("d", "d:0")]);
    let default = codec::tensor_proto::message::to_message(&floats(&[1], &[2.0]));
    definition.defaults.insert("f".to_owned(), default);
    for (map, x) in [
        (
            "input { alias: 'f' tensor: 'a' } input { alias: 'x' tensor: 'b' }",
            "f",
        ),
        (
            "input { alias: 'f' tensor: 'x' } input { alias: 'x' tensor: 'f' }",
            "f",
        ),
        ("input { alias: 'g' tensor: 'f' }", "x"),
        ("input { alias: 'g' tensor: 'b' keep: true }", "x"),
    ] {
        let version = pair().version();
        let version = version
            .original(&[("serving_default", definition.clone())])
            .map(&signature(map));
        let outputs = outputs_of(&version, &[(x, floats(&[1], &[1.0]))]);
        assert_eq!(values(&outputs), [("c", -1.0), ("d", 2.0)], "{map}");
    }
}
