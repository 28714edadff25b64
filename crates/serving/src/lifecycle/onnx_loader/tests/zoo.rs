//! Every model of the collections, case by case.

use super::*;

/// The signatures of the SavedModel, from the file itself.
fn original_definitions(directory: &Path) -> Option<BTreeMap<String, SignatureDef>> {
    let contents = std::fs::read(directory.join("saved_model.pb")).ok()?;
    let saved_model = SavedModel::decode(contents.as_slice()).unwrap();
    let meta_graphs = saved_model.meta_graphs.into_iter();
    let mut served = meta_graphs.filter(|it| it.meta_info_def.as_ref().unwrap().tags == ["serve"]);
    Some(served.next().unwrap().signature_def)
}

fn tensor(value: &Value) -> Tensor {
    let dims = value["shape"].as_array().unwrap().iter();
    let shape: Vec<usize> = dims.map(|dim| dim.as_u64().unwrap() as usize).collect();
    if value["dtype"] == "DT_STRING" {
        let strings = value["strings_b64"].as_array().unwrap().iter();
        return Tensor::from_strings(&shape, strings.map(decode).collect()).unwrap();
    }
    let numbers = 1..=23;
    let mut dtypes = numbers.filter_map(DataType::from_number);
    let dtype = dtypes.find(|it| value["dtype"] == it.proto_name()).unwrap();
    Tensor::from_bytes(dtype, &shape, decode(&value["b64"])).unwrap()
}

/// The inputs of the case; `None` if only REST can express them.
pub(super) fn inputs(case: &Value) -> Option<RequestInputs> {
    if let Some(examples) = case["examples_b64"].as_array() {
        let examples: Vec<Bytes> = examples.iter().map(decode).collect();
        let examples = Tensor::from_strings(&[examples.len()], examples).unwrap();
        let examples = RequestTensor::Valid(examples);
        return Some(BTreeMap::from([("inputs".to_owned(), examples)]));
    }
    let inputs = case["inputs"].as_object()?.iter();
    let valid = |it: &Value| RequestTensor::Valid(tensor(it));
    Some(
        inputs
            .map(|(alias, it)| (alias.clone(), valid(it)))
            .collect(),
    )
}

pub(super) fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    let bytes = tensor.bytes()?;
    Some(match tensor.dtype() {
        DataType::Float => tensor
            .as_slice::<f32>()?
            .iter()
            .map(|&it| it.into())
            .collect(),
        DataType::Double => tensor.as_slice::<f64>()?.to_vec(),
        DataType::Half => {
            let bits = tensor.as_slice::<half::f16>()?.iter();
            bits.map(|it| it.to_f64()).collect()
        }
        DataType::BFloat16 => {
            let bits = tensor.as_slice::<half::bf16>()?.iter();
            bits.map(|it| it.to_f64()).collect()
        }
        _ => return Some(Vec::new()).filter(|_| bytes.is_empty()),
    })
}

/// Whether `got` is the recorded answer, within the case's tolerance.
fn is_expected(got: &Tensor, expected: &Tensor, (abs, rel): (f64, f64)) -> bool {
    if got.dtype() != expected.dtype() || got.shape() != expected.shape() {
        return false;
    }
    let (Some(got_values), Some(values)) = (floats(got), floats(expected)) else {
        return got == expected;
    };
    let near = |(&a, &b): (&f64, &f64)| {
        a == b
            || (a.is_nan() && b.is_nan())
            || (a - b).abs() <= abs + rel * b.abs()
            || (a == 0.0 && b.abs() < f64::from(f32::MIN_POSITIVE))
    };
    got_values.iter().zip(&values).all(near)
}

/// The absolute and the relative tolerance, of the case or else of all cases of the model.
fn tolerance(case: &Value, cases: &Value) -> (f64, f64) {
    let own = case.get("tolerance").unwrap_or(&cases["tolerance"]);
    (own["abs"].as_f64().unwrap(), own["rel"].as_f64().unwrap())
}

/// The difference from the expected answer to a case; `None` if there is none.
fn failure(
    servable: &Servable,
    case: &Value,
    inputs: RequestInputs,
    tolerance: (f64, f64),
) -> Option<String> {
    let signature = case["signature_name"].as_str().unwrap();
    let expect = &case["expect"];
    let answer = run(servable, signature, inputs);
    if expect["status"] != 200 {
        return match answer {
            Ok(_) => Some("answered, where TensorFlow Serving fails".to_owned()),
            Err(error) if expect["kernel_specific"] == true => {
                (error.code() == Code::Internal).then(|| format!("is our fault: {error}"))
            }
            Err(error) => {
                let code = format!("{:?}", error.code()).to_uppercase();
                let expected = expect["grpc_code"].as_str().unwrap().replace('_', "");
                (code != expected).then(|| format!("{code} {error}"))
            }
        };
    }
    let outputs: BTreeMap<String, Tensor> = match answer {
        Ok(outputs) => outputs.into_iter().collect(),
        Err(error) => return Some(error.to_string()),
    };
    let expected = expect["outputs"].as_object().unwrap();
    for (alias, value) in expected {
        let expected = tensor(value);
        match outputs.get(alias) {
            None => return Some(format!("output '{alias}' is missing")),
            Some(got) if !is_expected(got, &expected, tolerance) => {
                return Some(format!(
                    "output '{alias}' is {got:?}, expected {expected:?}"
                ));
            }
            Some(_) => {}
        }
    }
    let others = outputs.len() - expected.len();
    (others > 0 && expect.get("not_a_tensor").is_none())
        .then(|| format!("{others} outputs too many"))
}

/// One line of the table, and the failures.
struct Line {
    text: String,
    failures: Vec<String>,
}

fn check_version(directory: &Path, cases: &Value, serves: &str) -> Line {
    let name = format!(
        "{}/{}",
        directory.parent().unwrap().file_name().unwrap().display(),
        directory.file_name().unwrap().display()
    );
    let servable = match (load(directory), serves) {
        (Ok(servable), _) => servable,
        (Err(error), "no" | "may") => {
            // The load is refused by the name of an operator.
            let named = ["DecodePng", "StaticRegexReplace", "StringSplitV2"];
            let is_named = named.iter().any(|op| error.to_string().contains(op));
            let failures = if is_named {
                vec![]
            } else {
                vec![format!("{name}: {error}")]
            };
            return Line {
                text: format!("{name:34} refused, naming the operator"),
                failures,
            };
        }
        (Err(error), _) => {
            return Line {
                text: format!("{name:34} NOT LOADED"),
                failures: vec![format!("{name}: {error}")],
            };
        }
    };
    let mut failures = Vec::new();
    if original_definitions(directory).is_some_and(|it| it != servable.definitions()) {
        failures.push(format!(
            "{name}: the definitions are not TensorFlow Serving's"
        ));
    }
    let version = directory.file_name().unwrap().to_str().unwrap();
    let (mut passed, mut rest_only) = (0, 0);
    let mut count = 0;
    for case in cases["cases"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["version"] == version)
    {
        count += 1;
        let Some(inputs) = inputs(case) else {
            rest_only += 1;
            continue;
        };
        match failure(&servable, case, inputs, tolerance(case, cases)) {
            None => passed += 1,
            Some(text) => failures.push(format!("{name}: {}: {text}", case["name"])),
        }
    }
    let text = format!("{name:34} {count:5} cases {passed:5} passed {rest_only:3} only for REST");
    Line { text, failures }
}

/// The collections that exist; the first one always does.
pub(super) fn collections() -> Vec<PathBuf> {
    let project = project();
    let beside = [
        project.join("../shared/zoo"),
        project.join("../shared/zoo_real"),
    ];
    let worktree = [
        project.join("../../shared/zoo"),
        project.join("../../shared/zoo_real"),
    ];
    let other = beside.into_iter().chain(worktree).filter(|it| it.is_dir());
    [project.join("tests/data/zoo")]
        .into_iter()
        .chain(other)
        .collect()
}

pub(super) fn versions(model: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(model).unwrap();
    let mut versions: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .parse::<u32>()
                .is_ok()
        })
        .collect();
    versions.sort();
    versions
}

#[test]
fn every_model_answers_as_its_original() {
    let mut failures = Vec::new();
    for collection in collections() {
        let index = json(&collection.join("zoo.json"));
        println!("\n{}", collection.display());
        for (model, entry) in index.as_object().unwrap() {
            let cases = json(&collection.join(entry["cases"].as_str().unwrap()));
            let serves = entry["serves"].as_str().unwrap();
            for version in versions(&collection.join(model)) {
                let line = check_version(&version, &cases, serves);
                println!("{}", line.text);
                failures.extend(line.failures);
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// The twins of the models that answered the recorded exchanges, if they are available.
#[test]
fn every_twin_has_its_definitions() {
    let places = ["../shared/golden/models", "../../shared/golden/models"];
    let mut found = places
        .iter()
        .map(|it| project().join(it))
        .filter(|it| it.is_dir());
    let Some(models) = found.next() else {
        return;
    };
    for entry in std::fs::read_dir(models).unwrap() {
        let model = entry.unwrap().path();
        for version in versions(&model) {
            let loaded = load(&version);
            if model.ends_with("bad") {
                assert_eq!(loaded.err().unwrap().code(), Code::InvalidArgument);
                continue;
            }
            let servable = loaded.unwrap_or_else(|error| panic!("{}: {error}", model.display()));
            let original = original_definitions(&version).unwrap();
            assert_eq!(servable.definitions(), original, "{}", model.display());
        }
    }
}
