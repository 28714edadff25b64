//! Compares the rows of a batch with the rows of single runs: they are bit for bit the same if the kernels'
//! order of additions does not depend on the number of rows, else the same within 1e-6.
//!
//! Batching only joins inputs and splits outputs along their first dimension, which its own tests cover.

use super::zoo::{collections, floats, inputs, versions};
use super::*;

/// The number of requests in a batch.
const BATCH: usize = 3;
/// Absolute, or relative to larger values.
const TOLERANCE: f64 = 1e-6;

/// The tensor `BATCH` times, along the first dimension; `None` for a scalar.
fn repeated(tensor: &Tensor) -> Option<Tensor> {
    let mut shape = tensor.shape().to_vec();
    *shape.first_mut()? *= BATCH;
    match tensor.bytes() {
        Some(bytes) => Tensor::from_bytes(tensor.dtype(), &shape, bytes.repeat(BATCH).into()),
        None => Tensor::from_strings(&shape, [tensor.strings()?; BATCH].concat()),
    }
}

/// The case's inputs `BATCH` times; `None` if they cannot be merged.
fn batch_of(inputs: &RequestInputs) -> Option<RequestInputs> {
    let mut rows = None;
    let mut batch = RequestInputs::new();
    for (alias, input) in inputs {
        let RequestTensor::Valid(tensor) = input else {
            return None;
        };
        let first = *tensor.shape().first()?;
        if first == 0 || *rows.get_or_insert(first) != first {
            return None;
        }
        batch.insert(alias.clone(), RequestTensor::Valid(repeated(tensor)?));
    }
    Some(batch)
}

/// The distance between the rows of `batch` and those of `alone`; `None` if the sizes differ.
fn distance(alone: &Tensor, batch: &Tensor) -> Option<f64> {
    let expected = repeated(alone)?;
    if (batch.dtype(), batch.shape()) != (expected.dtype(), expected.shape()) {
        return None;
    }
    if *batch == expected {
        return Some(0.0);
    }
    let (Some(a), Some(b)) = (floats(&expected), floats(batch)) else {
        return Some(f64::INFINITY);
    };
    let difference = |(a, b): (&f64, &f64)| (a - b).abs() / a.abs().max(1.0);
    let differences = a.iter().zip(&b).filter(|(a, b)| a.to_bits() != b.to_bits());
    Some(differences.map(difference).fold(0.0, f64::max))
}

/// The largest distance of any output of a case; `None` if its inputs cannot be merged.
fn case_distance(servable: &Servable, case: &Value) -> Option<f64> {
    let signature = case["signature_name"].as_str().unwrap();
    let alone = inputs(case)?;
    let batch = batch_of(&alone)?;
    let alone = run(servable, signature, alone).ok()?;
    let batch = run(servable, signature, batch).ok()?;
    let pairs = alone.iter().zip(&batch);
    pairs
        .map(|((_, a), (_, b))| distance(a, b))
        .try_fold(0.0, |most: f64, it| {
            let it = it?;
            // A NaN is not a distance.
            Some(if it.is_nan() {
                f64::INFINITY
            } else {
                most.max(it)
            })
        })
}

#[test]
fn rows_of_batches_are_those_of_runs_alone() {
    let (mut identical, mut failures) = (0, Vec::new());
    for collection in collections() {
        let index = json(&collection.join("zoo.json"));
        for (model, entry) in index.as_object().unwrap() {
            let cases = json(&collection.join(entry["cases"].as_str().unwrap()));
            for version in versions(&collection.join(model)) {
                let Ok(servable) = load(&version) else {
                    continue;
                };
                let number = version.file_name().unwrap().to_str().unwrap();
                let cases = cases["cases"].as_array().unwrap().iter();
                let cases = cases.filter(|it| it["version"] == number);
                let distances = cases.filter_map(|case| case_distance(&servable, case));
                let distances: Vec<f64> = distances.collect();
                let most = distances.iter().copied().fold(0.0, f64::max);
                let verdict = match distances.len() {
                    0 => "has no case that can be merged".to_owned(),
                    count if most == 0.0 => format!("{count} cases bit for bit"),
                    count => format!("{count} cases within {most:.1e}"),
                };
                println!("{model}/{number}: {verdict}");
                identical += distances.iter().filter(|&&it| it == 0.0).count();
                if most > TOLERANCE {
                    failures.push(format!("{model}/{number}: {verdict}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(identical > 20, "{identical} cases");
}
