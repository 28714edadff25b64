use std::collections::HashSet;

use super::rules::Rule;
use super::rules::schema_types::{TABLE, elem};
use super::*;
use crate::io_transforms::{int_attribute, ints_attribute};
use crate::node;
use proto::onnx::{
    AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto,
    tensor_proto::DataType as OnnxType, tensor_shape_proto, type_proto,
};

const INT32: i32 = OnnxType::Int32 as i32;
const INT64: i32 = OnnxType::Int64 as i32;
const FLOAT: i32 = OnnxType::Float as i32;

fn input(name: &str, elem: i32, rank: usize) -> ValueInfoProto {
    let tensor = type_proto::Tensor {
        elem_type: Some(elem),
        shape: Some(proto::onnx::TensorShapeProto {
            dim: vec![tensor_shape_proto::Dimension::default(); rank],
        }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

fn int64s(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: vec![values.len() as i64],
        data_type: Some(INT64),
        raw_data: Some(values.iter().flat_map(|it| it.to_le_bytes()).collect()),
        ..TensorProto::default()
    }
}

/// The known facts after these nodes; `x` is of floats and rank 3, `n` of int64 and rank 1.
fn known(nodes: &[NodeProto], functions: &[FunctionProto]) -> Scopes {
    let graph = GraphProto {
        input: vec![input("x", FLOAT, 3), input("n", INT64, 1)],
        initializer: vec![int64s("pair", &[4, -1]), int64s("none", &[])],
        ..GraphProto::default()
    };
    let mut scopes = Scopes::of_model(false, false, 17);
    scopes.enter_main(&graph, |_| true);
    scopes.learn_all(nodes, &mut Functions::new(functions));
    scopes
}

fn facts_of(node: NodeProto) -> Facts {
    let output = node.output[0].clone();
    known(&[node], &[]).facts(&output)
}

#[test]
fn types_follow_operators() {
    assert_eq!(facts_of(node("Relu", &["x"], "y")).elem, Elem::Is(FLOAT));
    assert_eq!(facts_of(node("Shape", &["x"], "y")).elem, Elem::Is(INT64));
    assert_eq!(
        facts_of(node("Add", &["n", "n"], "y")).elem,
        Elem::Is(INT64)
    );
    let mut cast = node("Cast", &["x"], "y");
    cast.attribute.push(int_attribute("to", i64::from(INT32)));
    assert_eq!(facts_of(cast.clone()).elem, Elem::Is(INT32));
    // The caller of a function sets the type.
    cast.attribute[0].ref_attr_name = Some("type".to_owned());
    assert!(facts_of(cast).elem.may_be_wide_integer());
    let mut own = node("ExpandDims", &["x"], "y");
    own.domain = Some("com.microsoft".to_owned());
    assert_eq!(facts_of(own.clone()).elem, Elem::Is(FLOAT));
    own.domain = Some("example".to_owned());
    assert_eq!(facts_of(own).elem, Elem::Unknown);
}

#[test]
fn types_follow_operators_of_the_runtime() {
    let added = |op_type: &str, inputs: &[&str]| NodeProto {
        domain: Some("com.microsoft".to_owned()),
        ..node(op_type, inputs, "y")
    };
    let is = |node, elem| assert_eq!(facts_of(node).elem, Elem::Is(elem));
    is(added("MurmurHash3", &["n"]), OnnxType::Uint32 as i32);
    let mut signed = added("MurmurHash3", &["n"]);
    signed.attribute.push(int_attribute("positive", 0));
    is(signed, INT32);
    is(added("DynamicTimeWarping", &["x"]), INT32);
    is(added("NGramRepeatBlock", &["n", "x"]), FLOAT);
    is(added("GatherBlockQuantized", &["n", "n", "x"]), FLOAT);
    is(added("BifurcationDetector", &["n", "n", "n"]), INT64);
    is(added("QGemm", &["n", "x"]), FLOAT);
    let mut first = added("GroupQueryAttention", &["x", "x", "x", "n", "n"]);
    first.output.push("z".to_owned());
    assert_eq!(known(&[first], &[]).facts("z").elem, Elem::Is(INT64));
}

#[test]
fn ranks_follow_operators() {
    let rank = |node| facts_of(node).rank;
    assert_eq!(rank(node("Relu", &["x"], "y")), Some(3));
    assert_eq!(rank(node("Mul", &["n", "x"], "y")), Some(3));
    assert_eq!(rank(node("Reshape", &["x", "pair"], "y")), Some(2));
    assert_eq!(
        rank(node("Reshape", &["x", "n"], "y")),
        None,
        "not constant"
    );
    let mut squeeze = node("Squeeze", &["x"], "y");
    assert_eq!(rank(squeeze.clone()), None, "it depends on sizes");
    squeeze.attribute.push(ints_attribute("axes", &[0, 1]));
    assert_eq!(rank(squeeze), Some(1));
    assert_eq!(rank(node("Gather", &["x", "n"], "y")), Some(3));
    assert_eq!(rank(node("Compress", &["x", "n"], "y")), None);
}

#[test]
fn constants_are_looked_into() {
    let scopes = known(&[], &[]);
    assert!(!scopes.facts("pair").is_never_minus_one);
    assert!(scopes.facts("pair").is_filled);
    assert!(!scopes.facts("none").is_filled);
    let mut constant = node("Constant", &[], "y");
    constant.attribute.push(int_attribute("value_int", 2));
    let facts = facts_of(constant);
    assert_eq!((facts.rank, facts.elem), (Some(0), Elem::Is(INT64)));
    assert!(facts.is_never_minus_one && facts.is_filled);
}

#[test]
fn branches_agree_or_nothing_is_known() {
    let branch = |name: &str, from: &str| AttributeProto {
        name: Some(name.to_owned()),
        g: Some(GraphProto {
            node: vec![node("Identity", &[from], "inner")],
            output: vec![ValueInfoProto {
                name: Some("inner".to_owned()),
                ..ValueInfoProto::default()
            }],
            ..GraphProto::default()
        }),
        ..AttributeProto::default()
    };
    let choice = |one, other| {
        let mut choice = node("If", &["n"], "y");
        choice.attribute = vec![branch("then_branch", one), branch("else_branch", other)];
        facts_of(choice).elem
    };
    assert_eq!(choice("n", "n"), Elem::Is(INT64));
    assert_eq!(choice("x", "n"), Elem::Unknown);
}

#[test]
fn functions_know_what_all_calls_give_them() {
    let function = FunctionProto {
        name: Some("Same".to_owned()),
        domain: Some("local".to_owned()),
        input: vec!["a".to_owned()],
        output: vec!["b".to_owned()],
        node: vec![node("Identity", &["a"], "b")],
        ..FunctionProto::default()
    };
    let call = |from, to| NodeProto {
        domain: Some("local".to_owned()),
        ..node("Same", &[from], to)
    };
    let functions = [function];
    let mut all = Functions::new(&functions);
    let mut scopes = known(&[], &functions);
    scopes.learn_all(&[call("x", "y")], &mut all);
    assert_eq!(scopes.facts("y").rank, Some(3));
    assert_eq!(
        all.called_with(&functions[0]).unwrap()[0].elem,
        Elem::Is(FLOAT)
    );
    scopes.learn_all(&[call("n", "z")], &mut all);
    // Each call returns its argument's type; the body has the facts common to both.
    assert_eq!(scopes.facts("z").elem, Elem::Is(INT64));
    let common = all.called_with(&functions[0]).unwrap()[0];
    assert_eq!((common.elem, common.rank), (Elem::Unknown, None));
}

#[test]
fn functions_that_are_called_from_very_deep_are_called_with_anything() {
    let function = |depth: usize, node: NodeProto| FunctionProto {
        name: Some(format!("F{depth}")),
        domain: Some("local".to_owned()),
        input: vec!["a".to_owned()],
        output: vec!["b".to_owned()],
        node: vec![node],
        ..FunctionProto::default()
    };
    let call = |depth: usize, from, to| NodeProto {
        domain: Some("local".to_owned()),
        ..node(&format!("F{depth}"), &[from], to)
    };
    let mut functions = vec![function(0, node("Identity", &["a"], "b"))];
    functions.extend((1..100).map(|depth| function(depth, call(depth - 1, "a", "b"))));
    let mut all = Functions::new(&functions);
    let mut scopes = known(&[], &functions);
    scopes.learn_all(&[call(99, "n", "y")], &mut all);
    let unknown = Facts {
        emptied_with: scopes.facts("y").emptied_with,
        ..Facts::default()
    };
    assert_eq!(scopes.facts("y"), unknown);
    let elem = |all: &Functions<'_>, depth: usize| {
        let inputs = all.called_with(&functions[depth]);
        inputs.map(|it| it[0].elem)
    };
    assert_eq!(elem(&all, 99), Some(Elem::Is(INT64)));
    assert_eq!(elem(&all, 0), Some(Elem::Unknown));
    // A shallow call does not make it known.
    scopes.learn_all(&[call(0, "n", "z")], &mut all);
    assert_eq!(scopes.facts("z").elem, Elem::Is(INT64));
    assert_eq!(elem(&all, 0), Some(Elem::Unknown));
}

/// Operators for training, and those whose types are those of a graph.
const WITHOUT_RULES: &[&str] = &["Adagrad", "Adam", "Momentum", "Scan", "SequenceMap"];

#[test]
fn types_are_those_of_the_schemas() {
    let has_none = |line: &str| WITHOUT_RULES.contains(&line.split(' ').nth(1).unwrap());
    let wrong: Vec<String> = TABLE
        .lines()
        .filter(|line| !line.starts_with('#') && !has_none(line))
        .flat_map(wrong_types)
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How the rules differ from a line of the table.
fn wrong_types(line: &str) -> Vec<String> {
    let (place, types) = line.split_once(": ").unwrap();
    let place: Vec<&str> = place.split(' ').collect();
    let (opset, index) = (place[2].parse().unwrap(), place[3].parse().unwrap());
    let mut types = types.split(' ');
    let same = types.next().unwrap();
    let types: Vec<Elem> = types.map(elem).collect();
    let inputs: HashSet<usize> = same.split(',').flat_map(str::parse).collect();
    let names = vec!["x"; inputs.iter().max().map_or(0, |it| it + 1)];
    let node = NodeProto {
        domain: Some(place[0].to_owned()),
        ..node(place[1], &names, "y")
    };
    let found = |inputs: &[Facts]| {
        let rule = Rule {
            node: &node,
            inputs,
            bodies: &[],
            opset,
        };
        rule.output(index).elem
    };
    let mut wrong = Vec::new();
    let mut is = |inputs: &[Facts], is_right: &dyn Fn(Elem) -> bool| {
        let found = found(inputs);
        if !is_right(found) {
            wrong.push(format!("{line} is {found:?}"));
        }
    };
    let may_be_wide = types.iter().any(|it| it.may_be_wide_integer());
    is(&vec![Facts::default(); names.len()], &|it| {
        it != Elem::Other || !may_be_wide
    });
    for &elem in types.iter().filter(|_| same != "open") {
        let others = if elem == Elem::Is(FLOAT) {
            INT64
        } else {
            FLOAT
        };
        let facts = |index: usize| match inputs.contains(&index) {
            true => Facts {
                elem,
                ..Facts::default()
            },
            false => Facts::of_type(others),
        };
        let facts: Vec<Facts> = (0..names.len()).map(facts).collect();
        is(&facts, &|it| it == elem);
    }
    wrong
}
