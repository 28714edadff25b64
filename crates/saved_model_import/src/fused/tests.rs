use base::tensor::{DataType, Tensor as Elements};
use proto::tensorflow::{AttrValue, NodeDef, attr_value};

use crate::builder::Builder;
use crate::op::Op;
use crate::ops::{self, Rule};
use crate::value::{Shape, Tensor, Value};

/// Translates one node as `translation` does.
fn apply(b: &mut Builder, op: &str, inputs: &[&Tensor]) -> Tensor {
    apply_with(b, op, &[], inputs)
}

fn apply_with(
    b: &mut Builder,
    op: &str,
    attributes: &[(&str, attr_value::Value)],
    inputs: &[&Tensor],
) -> Tensor {
    let attributes = attributes.iter().map(|(name, value)| {
        let value = Some(value.clone());
        ((*name).to_owned(), AttrValue { value })
    });
    let node = NodeDef {
        op: op.to_owned(),
        attr: attributes.collect(),
        ..NodeDef::default()
    };
    let inputs: Vec<Value> = inputs.iter().map(|&it| Value::Tensor(it.clone())).collect();
    let op = Op {
        node: &node,
        inputs: &inputs,
    };
    let Some(Rule::Pure(rule)) = ops::rule(&node.op) else {
        panic!("{} is not pure", node.op);
    };
    let outputs = rule(b, &op).unwrap();
    let outputs = super::improved(b, &op, outputs).unwrap();
    b.note_origin(&node, &inputs, &outputs);
    match outputs.first() {
        Some(Value::Tensor(tensor)) => tensor.clone(),
        _ => panic!("no tensor"),
    }
}

fn number(value: f32) -> Tensor {
    Tensor::constant(Elements::from_vec(&[], vec![value]).unwrap())
}

fn vector(values: &[f32]) -> Tensor {
    Tensor::constant(Elements::from_vec(&[values.len()], values.to_vec()).unwrap())
}

fn input(b: &mut Builder, name: &str, dims: &[Option<i64>]) -> Tensor {
    let shape = Shape::dims(dims.iter().copied());
    b.input(name, DataType::Float, shape).unwrap()
}

/// The types of the nodes that an output needs, without the one that names it.
fn nodes(mut b: Builder, output: &Tensor) -> Vec<String> {
    b.output("output", output).unwrap();
    let graph = b.finish("").graph.unwrap();
    let types = graph.node.iter().map(|it| it.op_type().to_owned());
    types.filter(|it| it != "Identity").collect()
}

/// `0.5 * x * erfc(-y * factor)`.
fn gelu(b: &mut Builder, x: &Tensor, y: &Tensor, factor: f32) -> Tensor {
    let half = apply(b, "Mul", &[&number(0.5), x]);
    let negative = apply(b, "Neg", &[y]);
    let scaled = apply(b, "Mul", &[&negative, &number(factor)]);
    let twice = apply(b, "Erfc", &[&scaled]);
    apply(b, "Mul", &[&half, &twice])
}

#[test]
fn a_gelu_is_one_node_if_all_parts_are_its_own() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[None, Some(4)]);
    let whole = gelu(&mut b, &x, &x, 0.707_106_77);
    assert_eq!(nodes(b, &whole), ["Gelu"]);
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[None, Some(4)]);
    let whole = gelu(&mut b, &x, &x, 0.707);
    assert!(!nodes(b, &whole).contains(&"Gelu".to_owned()));
    let mut b = Builder::new();
    let (x, y) = (
        input(&mut b, "x", &[Some(4)]),
        input(&mut b, "y", &[Some(4)]),
    );
    let whole = gelu(&mut b, &x, &y, 0.707_106_77);
    assert!(!nodes(b, &whole).contains(&"Gelu".to_owned()));
}

/// `x * inverse + (offset - mean * inverse)`.
fn norm(
    b: &mut Builder,
    x: &Tensor,
    (mean, variance): (&Tensor, &Tensor),
    (scale, offset): (&Tensor, &Tensor),
) -> Tensor {
    let spread = apply(b, "AddV2", &[variance, &number(0.001)]);
    let inverse = apply(b, "Rsqrt", &[&spread]);
    let inverse = apply(b, "Mul", &[&inverse, scale]);
    let product = apply(b, "Mul", &[x, &inverse]);
    let shift = apply(b, "Mul", &[mean, &inverse]);
    let shift = apply(b, "Sub", &[offset, &shift]);
    apply(b, "AddV2", &[&product, &shift])
}

#[test]
fn a_norm_with_constants_is_a_batch_norm_of_known_channels() {
    let constants = [1.0, 2.0, 3.0, 4.0].map(|it| vector(&[it, it + 1.0, it + 2.0]));
    let [mean, variance, scale, offset] = &constants;
    let statistics = (mean, variance);
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[None, None, None, Some(3)]);
    let whole = norm(&mut b, &x, statistics, (scale, offset));
    assert_eq!(
        nodes(b, &whole),
        ["Transpose", "BatchNormalization", "Transpose"]
    );
    // One channel would be broadcast.
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[None, None, None, None]);
    let whole = norm(&mut b, &x, statistics, (scale, offset));
    assert!(!nodes(b, &whole).contains(&"BatchNormalization".to_owned()));
}

/// The mean along the last dimension.
fn mean_of(b: &mut Builder, x: &Tensor) -> Tensor {
    let axes = b.i64s(&[-1]);
    let keep = ("keep_dims", attr_value::Value::B(true));
    apply_with(b, "Mean", &[keep], &[x, &axes])
}

#[test]
fn a_norm_with_the_statistics_of_its_own_input_is_a_layer_norm() {
    for is_own in [true, false] {
        let mut b = Builder::new();
        let x = input(&mut b, "x", &[None, Some(3)]);
        let y = input(&mut b, "y", &[None, Some(3)]);
        let of = if is_own { &x } else { &y };
        let mean = mean_of(&mut b, of);
        let squares = apply(&mut b, "SquaredDifference", &[of, &mean]);
        let variance = mean_of(&mut b, &squares);
        let (scale, offset) = (vector(&[1.0, 2.0, 3.0]), vector(&[3.0, 2.0, 1.0]));
        let whole = norm(&mut b, &x, (&mean, &variance), (&scale, &offset));
        let found = nodes(b, &whole);
        assert_eq!(found == ["LayerNormalization"], is_own, "{found:?}");
    }
}

#[test]
fn a_batch_norm_of_rows_is_a_layer_norm_if_a_row_is_the_last_dimension() {
    for (size, is_found) in [(3, true), (6, false)] {
        let mut b = Builder::new();
        let x = input(&mut b, "x", &[Some(2), Some(4), Some(3)]);
        let rows = 24 / size;
        let flat = b.i64s(&[1, rows, size, 1]);
        let flat = apply(&mut b, "Reshape", &[&x, &flat]);
        let count = usize::try_from(rows).unwrap();
        let (one, zero) = (vector(&vec![1.0; count]), vector(&vec![0.0; count]));
        let attributes = [
            ("is_training", attr_value::Value::B(true)),
            ("epsilon", attr_value::Value::F(0.001)),
            ("data_format", attr_value::Value::S("NCHW".into())),
        ];
        let none = vector(&[]);
        let normal = apply_with(
            &mut b,
            "FusedBatchNormV3",
            &attributes,
            &[&flat, &one, &zero, &none, &none],
        );
        let back = b.i64s(&[2, 4, 3]);
        let normal = apply(&mut b, "Reshape", &[&normal, &back]);
        let scaled = apply(&mut b, "Mul", &[&normal, &vector(&[1.0, 2.0, 3.0])]);
        let whole = apply(&mut b, "AddV2", &[&scaled, &vector(&[3.0, 2.0, 1.0])]);
        let found = nodes(b, &whole);
        assert_eq!(found == ["LayerNormalization"], is_found, "{found:?}");
    }
}
