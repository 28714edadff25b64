//! Inputs under aliases that a signature map has replaced and still accepts. Not here: which aliases it
//! accepts (`mapper::signature`).

use super::*;

/// A signature map gives this input the alias `features` and keeps `x` for it.
#[test]
fn kept_aliases_are_read_as_the_new_one() {
    let specs = |_: &str| {
        let spec = |alias: &str, kept: &[&str]| InputSpec {
            alias: alias.to_owned(),
            dtype: DataType::Float,
            is_optional: false,
            kept: kept.iter().map(|&it| it.to_owned()).collect(),
        };
        Ok(vec![spec("features", &["x"]), spec("weight", &[])])
    };
    for body in [
        r#"{"instances": [{"features": 1, "weight": 3}, {"x": 2, "weight": 4}]}"#,
        r#"{"inputs": {"x": [1, 2], "weight": [3, 4]}}"#,
        r#"{"inputs": {"features": [1, 2], "weight": [3, 4]}}"#,
    ] {
        let inputs = decode_predict(body.as_bytes(), specs).unwrap().inputs;
        let tensor = |values: [f32; 2]| Tensor::from_vec(&[2], values.to_vec()).unwrap();
        assert_eq!(inputs["features"], tensor([1.0, 2.0]), "{body}");
        assert_eq!(inputs["weight"], tensor([3.0, 4.0]), "{body}");
        assert_eq!(inputs.len(), 2, "{body}");
    }
    for body in [
        r#"{"instances": [{"features": 1, "x": 1, "weight": 3}]}"#,
        r#"{"instances": [{"x": 1, "features": 1, "weight": 3}]}"#,
        r#"{"inputs": {"x": [1, 2], "features": [1, 2], "weight": [3, 4]}}"#,
        r#"{"inputs": {"features": [1, 2], "x": [1, 2], "weight": [3, 4]}}"#,
    ] {
        let error = decode_predict(body.as_bytes(), specs).unwrap_err();
        let text = "and another alias of it; send one of them";
        assert!(error.to_string().contains(text), "{error}");
    }
}

/// A key that occurs twice does not count as two aliases: its meaning is the same as without kept ones.
#[test]
fn repeated_key_of_an_input_with_kept_aliases_is_one_alias() {
    let specs = |kept: &[&str]| {
        let kept: Vec<String> = kept.iter().map(|&it| it.to_owned()).collect();
        move |_: &str| {
            Ok(vec![InputSpec {
                alias: "features".to_owned(),
                dtype: DataType::Float,
                is_optional: false,
                kept: kept.clone(),
            }])
        }
    };
    for body in [
        r#"{"inputs": {"features": [1], "features": [2]}}"#,
        r#"{"instances": [{"features": 1, "features": 2}]}"#,
        r#"{"instances": [{"features": [1], "features": [2, 3]}]}"#,
    ] {
        let decode = |body: &str, kept: &[&str]| {
            let decoded = decode_predict(body.as_bytes(), specs(kept));
            decoded
                .map(|it| it.inputs)
                .map_err(|error| error.to_string())
        };
        let without = decode(body, &[]);
        assert_eq!(decode(body, &["x"]), without, "{body}");
        let renamed = decode(&body.replace("features", "x"), &["x"]);
        let renamed = renamed.map_err(|error| error.replace("key: x", "key: features"));
        assert_eq!(renamed, without, "{body}");
    }
    let inputs = r#"{"inputs": {"features": [1], "features": [2]}}"#;
    let inputs = decode_predict(inputs.as_bytes(), specs(&["x"]))
        .unwrap()
        .inputs;
    assert_eq!(
        inputs["features"],
        Tensor::from_vec(&[1], vec![1.0f32]).unwrap()
    );
}

/// An optional input to which a signature map gives the alias `factor`, and for which it keeps `scale`.
#[test]
fn optional_input_is_read_under_a_kept_alias() {
    let specs = |_: &str| {
        let spec = |alias: &str, is_optional: bool, kept: &[&str]| InputSpec {
            alias: alias.to_owned(),
            dtype: DataType::Float,
            is_optional,
            kept: kept.iter().map(|&it| it.to_owned()).collect(),
        };
        Ok(vec![
            spec("factor", true, &["scale"]),
            spec("x", false, &[]),
        ])
    };
    for (body, factor) in [
        (r#"{"instances": [1, 2]}"#, None),
        (r#"{"inputs": [1, 2]}"#, None),
        (r#"{"instances": [{"x": 1}, {"x": 2}]}"#, None),
        (r#"{"inputs": {"x": [1, 2]}}"#, None),
        (r#"{"inputs": {"scale": [3, 4], "x": [1, 2]}}"#, Some(())),
        (r#"{"inputs": {"factor": [3, 4], "x": [1, 2]}}"#, Some(())),
        (
            r#"{"instances": [{"x": 1, "factor": 3}, {"scale": 4, "x": 2}]}"#,
            Some(()),
        ),
    ] {
        let inputs = decode_predict(body.as_bytes(), specs).unwrap().inputs;
        let tensor = |values: [f32; 2]| Tensor::from_vec(&[2], values.to_vec()).unwrap();
        assert_eq!(inputs["x"], tensor([1.0, 2.0]), "{body}");
        let factor = factor.map(|()| tensor([3.0, 4.0]));
        assert_eq!(inputs.get("factor"), factor.as_ref(), "{body}");
        assert!(!inputs.contains_key("scale"), "{body}");
    }
    for body in [
        r#"{"instances": [{"x": 1, "scale": 3}, {"x": 2}]}"#,
        r#"{"instances": [{"x": 1}, {"x": 2, "scale": 3}]}"#,
        r#"{"instances": [{"x": 1, "scale": 3, "factor": 3}]}"#,
        r#"{"inputs": {"x": [1], "scale": [3], "factor": [3]}}"#,
    ] {
        let error = decode_predict(body.as_bytes(), specs).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{body}");
    }
}
