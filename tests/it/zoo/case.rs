//! The models of a zoo and their cases, from `zoo.json` and `cases.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::tensorflow::DataType;

use crate::support::json::{Json, Tolerance};
use crate::support::tensor::{TestTensor, Values};

/// One base path.
pub(crate) struct Entry {
    /// The name of its folder: the model's, possibly with a variant's.
    pub(crate) name: String,
    pub(crate) model: String,
    pub(crate) base_path: PathBuf,
    /// `yes`, `map`, `errors`, `no` or `may`.
    pub(crate) serves: String,
    pub(crate) notes: String,
    pub(crate) cases: Vec<Case>,
}

/// One request and its answer.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) version: i64,
    pub(crate) verb: String,
    pub(crate) signature_name: String,
    /// Path and body; `None` if REST cannot express the request.
    pub(crate) rest: Option<(String, String)>,
    pub(crate) inputs: Option<BTreeMap<String, TestTensor>>,
    pub(crate) examples: Option<Vec<Vec<u8>>>,
    pub(crate) rest_status: i64,
    pub(crate) grpc_code: String,
    /// TensorFlow refuses it in a kernel, so any error is accepted.
    pub(crate) is_kernel_specific: bool,
    /// A text that the error has to contain.
    pub(crate) error_text: Option<String>,
    pub(crate) outputs: Option<BTreeMap<String, TestTensor>>,
    /// The decoded body.
    pub(crate) rest_body: Option<Json>,
    pub(crate) tolerance: Tolerance,
}

/// Reads a zoo. Folders in the index that do not exist are skipped.
pub(crate) fn read_zoo(folder: &Path) -> Vec<Entry> {
    let index = read_json(&folder.join("zoo.json"));
    let members = index.members().expect("an object");
    members
        .iter()
        .map(|(name, entry)| read_entry(folder, &String::from_utf8_lossy(name), entry))
        .filter(|entry| entry.base_path.is_dir())
        .collect()
}

fn read_entry(folder: &Path, name: &str, entry: &Json) -> Entry {
    let base_path = folder.join(name);
    let cases_file = folder.join(text(entry, "cases").unwrap_or_default());
    let cases = if cases_file.is_file() {
        read_cases(&read_json(&cases_file))
    } else {
        Vec::new()
    };
    let notes = entry
        .get("notes")
        .and_then(Json::as_array)
        .unwrap_or_default();
    Entry {
        name: name.to_owned(),
        model: text(entry, "model").expect("a model"),
        base_path,
        serves: text(entry, "serves").expect("whether it serves"),
        notes: notes
            .iter()
            .filter_map(Json::as_str)
            .collect::<Vec<_>>()
            .join("; "),
        cases,
    }
}

fn read_cases(json: &Json) -> Vec<Case> {
    let common = tolerance(json.get("tolerance")).unwrap_or_default();
    let cases = json.get("cases").and_then(Json::as_array).expect("cases");
    cases.iter().map(|case| read_case(case, common)).collect()
}

fn read_case(case: &Json, common: Tolerance) -> Case {
    let expect = case.get("expect").expect("an expectation");
    let status = expect
        .get("status")
        .and_then(Json::as_i64)
        .expect("a status");
    let rest = case.get("rest").filter(|rest| rest.get("path").is_some());
    let examples = case.get("examples_b64").and_then(Json::as_array);
    Case {
        name: text(case, "name").expect("a name"),
        version: text(case, "version").expect("a version").parse().unwrap(),
        verb: text(case, "verb").expect("a verb"),
        signature_name: text(case, "signature_name").unwrap_or_default(),
        rest: rest.map(|rest| {
            let body = rest.get("body").map(Json::to_string);
            let body = text(rest, "body_text").or(body).expect("a body");
            (text(rest, "path").expect("a path"), body)
        }),
        inputs: case.get("inputs").and_then(tensors),
        examples: examples.map(|examples| examples.iter().map(decode).collect()),
        rest_status: expect
            .get("rest_status")
            .and_then(Json::as_i64)
            .unwrap_or(status),
        grpc_code: text(expect, "grpc_code").unwrap_or_else(|| "OK".to_owned()),
        is_kernel_specific: matches!(expect.get("kernel_specific"), Some(Json::Bool(true))),
        error_text: text(expect, "error_text"),
        outputs: expect.get("outputs").and_then(tensors).map(|mut outputs| {
            outputs.extend(expect.get("python_value").map(scores).unwrap_or_default());
            outputs
        }),
        rest_body: expect.get("rest").cloned(),
        tolerance: tolerance(case.get("tolerance")).unwrap_or(common),
    }
}

/// Tensors by alias; `None` for `null`.
fn tensors(json: &Json) -> Option<BTreeMap<String, TestTensor>> {
    let members = json.members()?.iter();
    Some(
        members
            .map(|(alias, json)| (String::from_utf8_lossy(alias).into_owned(), tensor(json)))
            .collect(),
    )
}

fn tensor(json: &Json) -> TestTensor {
    let dtype = text(json, "dtype").expect("a dtype");
    let dtype = DataType::from_str_name(&dtype).expect("a known dtype");
    let dims = json.get("shape").and_then(Json::as_array).expect("a shape");
    let values = match json.get("strings_b64").and_then(Json::as_array) {
        Some(strings) => Values::String(strings.iter().map(decode).collect()),
        None => Values::from_bytes(dtype, &decode(json.get("b64").expect("values")))
            .expect("a dtype of fixed size"),
    };
    TestTensor {
        shape: dims.iter().filter_map(Json::as_i64).collect(),
        values,
    }
}

/// A list of maps from label to score, which is served as a tensor: a row for each map, in the
/// order of the labels.
fn scores(python_value: &Json) -> BTreeMap<String, TestTensor> {
    let by_alias = python_value.members().unwrap_or_default().iter();
    by_alias
        .map(|(alias, rows)| {
            let rows = rows.as_array().expect("rows");
            let values = rows.iter().flat_map(|row| row.members().expect("a map"));
            let values = values.map(|(_, score)| score.as_f64().expect("a score") as f32);
            let values: Vec<f32> = values.collect();
            let tensor = TestTensor {
                shape: vec![rows.len() as i64, (values.len() / rows.len().max(1)) as i64],
                values: Values::Float(values),
            };
            (String::from_utf8_lossy(alias).into_owned(), tensor)
        })
        .collect()
}

fn tolerance(json: Option<&Json>) -> Option<Tolerance> {
    let part = |name| json?.get(name).and_then(Json::as_f64);
    Some(Tolerance {
        abs: part("abs")?,
        rel: part("rel")?,
    })
}

fn decode(json: &Json) -> Vec<u8> {
    STANDARD.decode(json.as_str().expect("base64")).unwrap()
}

fn text(json: &Json, name: &str) -> Option<String> {
    json.get(name)?.as_str().map(str::to_owned)
}

fn read_json(file: &Path) -> Json {
    Json::parse(&fs::read(file).unwrap()).unwrap()
}
