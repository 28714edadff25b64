//! The command `run`: loads a version, runs a signature once and prints its outputs as `saved_model_cli run` does.
//!
//! Not here: loading and running (`serving`).

mod array;
mod literal;
mod npy;
mod numpy_text;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use self::array::{Array, Elements};
use self::literal::Literal;
use super::arguments::RunArguments;
use crate::server;
use base::error::{Result, ServingError};
use base::id::ServableId;
use base::tensor::DataType;
use mapper::signature::{RequestInputs, RequestTensor};
use mapper::version_dir::{SavedModelOptions, check_tag_set};
use prost::Message;
use proto::tensorflow::{
    BytesList, Example, Feature, Features, FloatList, Int64List, feature::Kind,
};
use runtime::BackendOptions;
use serving::servable::{ExpansionBudget, Servable};

/// Loads the version and runs the signature; the text for stdout.
pub(super) fn run(arguments: &RunArguments) -> Result<String> {
    let inputs = inputs(arguments)?;
    let directory = &arguments.version.dir;
    let tags = arguments.version.tags();
    check_tag_set(directory, &tags)?;
    let runtime = super::small_runtime()?;
    let backend = BackendOptions {
        choice: arguments.backend,
        onnxruntime_library: arguments.onnxruntime_library.clone(),
        ..BackendOptions::default()
    };
    let saved_model = SavedModelOptions {
        tags,
        partial: true,
    };
    let loader = server::check_loader(&backend, saved_model, runtime.handle().clone())?;
    let servable = loader.load(&ServableId::new("run", 1), directory)?;
    let (wanted, inputs) = converted(&servable, &arguments.signature_def, inputs)?;
    let budget = ExpansionBudget::unbounded();
    let name = &arguments.signature_def;
    let (mut outputs, _) = runtime.block_on(servable.run(name, inputs, &wanted, None, &budget))?;
    outputs.sort_by(|one, other| one.0.cmp(&other.0));
    let mut text = String::new();
    for (alias, tensor) in outputs {
        let printed = numpy_text::text(&tensor);
        let _ = writeln!(text, "Result for output key {alias}:\n{printed}");
    }
    Ok(text)
}

/// The aliases of the outputs, and the inputs with the dtypes that the signature wants.
fn converted(
    servable: &Servable,
    name: &str,
    inputs: BTreeMap<String, Array>,
) -> Result<(Vec<String>, RequestInputs)> {
    let signature = servable.signatures().find(|it| it.name == name);
    let signature = signature.ok_or_else(|| {
        let names: Vec<&str> = servable.signatures().map(|it| it.name.as_str()).collect();
        ServingError::not_found(format!(
            "Could not find signature \"{name}\". Please choose from: {}",
            names.join(", ")
        ))
    })?;
    let mut tensors = RequestInputs::new();
    for (alias, array) in inputs {
        let input = signature.inputs.iter().find(|it| it.alias == alias);
        let input = input.ok_or_else(|| {
            let known: Vec<&str> = signature
                .inputs
                .iter()
                .map(|it| it.alias.as_str())
                .collect();
            ServingError::invalid_argument(format!(
                "\"{alias}\" is not a valid input key. Please choose from \"{}\"",
                known.join("\", \"")
            ))
        })?;
        let tensor = array.into_tensor(input.dtype);
        let tensor = tensor.map_err(|error| of_input(&alias, error))?;
        tensors.insert(alias, RequestTensor::Valid(tensor));
    }
    Ok((signature.answerable_outputs(), tensors))
}

fn of_input(alias: &str, error: ServingError) -> ServingError {
    let text = format!("input '{alias}': {error}");
    error.with_text(text)
}

/// The values of all three flags, by alias. As in `saved_model_cli`, examples go before expressions, and these
/// before files.
fn inputs(arguments: &RunArguments) -> Result<BTreeMap<String, Array>> {
    let mut inputs = BTreeMap::new();
    for (alias, source) in pairs("--inputs", &arguments.inputs)? {
        let array = from_file(source).map_err(|error| of_input(alias, error))?;
        inputs.insert(alias.to_owned(), array);
    }
    for (alias, text) in pairs("--input_exprs", &arguments.input_exprs)? {
        let array = literal::parse(text).and_then(Literal::into_array);
        let array = array.map_err(|error| of_input(alias, error))?;
        inputs.insert(alias.to_owned(), array);
    }
    for (alias, text) in pairs("--input_examples", &arguments.input_examples)? {
        let array = literal::parse(text).and_then(examples);
        let array = array.map_err(|error| of_input(alias, error))?;
        inputs.insert(alias.to_owned(), array);
    }
    Ok(inputs)
}

/// `ALIAS=VALUE`, separated by semicolons.
fn pairs<'a>(flag: &str, text: &'a str) -> Result<Vec<(&'a str, &'a str)>> {
    let parts = text.split(';').filter(|it| !it.trim().is_empty());
    parts
        .map(|part| {
            part.split_once('=')
                .map(|(alias, value)| (alias.trim(), value.trim()))
                .ok_or_else(|| {
                    ServingError::invalid_argument(format!(
                        "{flag} \"{part}\" is not of the form INPUT=VALUE"
                    ))
                })
        })
        .collect()
}

/// `FILE` or `FILE[NAME]`.
fn from_file(source: &str) -> Result<Array> {
    let (file, variable) = match source.strip_suffix(']').and_then(|it| it.rsplit_once('[')) {
        Some((file, variable)) => (file, Some(variable)),
        None => (source, None),
    };
    let contents = std::fs::read(Path::new(file))
        .map_err(|error| ServingError::not_found(format!("{file}: {error}")))?;
    npy::read(&contents, variable).map_err(|error| {
        let text = format!("{file}: {error}");
        error.with_text(text)
    })
}

/// Serialized examples from a list of dicts of lists.
fn examples(value: Literal) -> Result<Array> {
    let Literal::List(dicts) = value else {
        return Err(refused("examples are a list of dictionaries"));
    };
    let strings: Vec<_> = dicts.into_iter().map(example).collect::<Result<_>>()?;
    Ok(Array {
        shape: vec![strings.len()],
        elements: Elements::Strings(strings),
    })
}

fn refused(text: &str) -> ServingError {
    ServingError::invalid_argument(text)
}

fn example(value: Literal) -> Result<bytes::Bytes> {
    let Literal::Dict(features) = value else {
        return Err(refused("an example is a dictionary of lists"));
    };
    let mut feature = std::collections::BTreeMap::new();
    for (key, values) in features {
        let Literal::List(_) = values else {
            return Err(refused(&format!(
                "the value of feature '{key}' is not a list"
            )));
        };
        let kind = match values.into_array()?.elements {
            Elements::Strings(value) => Kind::BytesList(BytesList { value }),
            Elements::Floats(value) => Kind::FloatList(FloatList {
                value: value.into_iter().map(|it| it as f32).collect(),
            }),
            Elements::Ints(value) => {
                let value = value.into_iter().map(i64::try_from).collect();
                Kind::Int64List(Int64List {
                    value: value_or(value, &key)?,
                })
            }
        };
        feature.insert(key, Feature { kind: Some(kind) });
    }
    let features = Features {
        feature: feature.into_iter().collect(),
    };
    let example = Example {
        features: Some(features),
    };
    Ok(example.encode_to_vec().into())
}

fn value_or(
    value: std::result::Result<Vec<i64>, std::num::TryFromIntError>,
    key: &str,
) -> Result<Vec<i64>> {
    value.map_err(|_| {
        refused(&format!(
            "feature '{key}': out of range for {}",
            DataType::Int64
        ))
    })
}
