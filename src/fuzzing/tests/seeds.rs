//! Real inputs as seeds: recorded requests, and the files of the models in `tests/data`.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::Value;

use super::super::{onnx_model, signature_map};
use codec::tfrecord::append_record;
use proto::tensorflow::serving as pb;
use proto::tensorflow::serving::internal::serialized_input::Kind;
use proto::tensorflow::serving::prediction_log::LogType;

/// Larger files help a fuzzer no more than smaller ones.
const MAX_BYTES: u64 = 24 << 10;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// The requests of a file of recorded exchanges.
fn recorded(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(data().join("golden").join(file)).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["request"].take())
        .collect()
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    Some(STANDARD.decode(value.as_str()?).unwrap())
}

/// Puts the selector byte in front.
fn chosen(selector: usize, bytes: &[u8]) -> Vec<u8> {
    let mut seed = vec![u8::try_from(selector).unwrap()];
    seed.extend_from_slice(bytes);
    seed
}

pub(super) fn rest_body() -> Vec<Vec<u8>> {
    let requests = recorded("rest.jsonl");
    let bodies = requests.iter().filter_map(|it| bytes(&it["body_b64"]));
    bodies
        .filter(|body| body.len() as u64 <= MAX_BYTES)
        .enumerate()
        .flat_map(|(number, body)| [chosen(0, &body), chosen(number % 13, &body)])
        .collect()
}

pub(super) fn rest_url() -> Vec<Vec<u8>> {
    let seed = |request: &Value| {
        let is_post = usize::from(request["method"] == "POST");
        Some(chosen(is_post, request["path"].as_str()?.as_bytes()))
    };
    recorded("rest.jsonl").iter().filter_map(seed).collect()
}

/// The messages that were sent to a method.
fn sent(method: &str) -> Vec<Vec<u8>> {
    let requests = recorded("grpc.jsonl");
    let calls = requests.iter().filter(|it| {
        let name = it["service_method"].as_str();
        name.is_some_and(|name| name.ends_with(method))
    });
    calls.filter_map(|it| bytes(&it["message_b64"])).collect()
}

pub(super) fn tensor_proto() -> Vec<Vec<u8>> {
    let mut seeds = sent("/Predict");
    for request in seeds.clone() {
        let Ok(request) = pb::PredictRequest::decode(request.as_slice()) else {
            continue;
        };
        seeds.extend(request.inputs.values().map(Message::encode_to_vec));
    }
    seeds
}

pub(super) fn example() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for request in sent("/Classify") {
        let Ok(request) = pb::ClassificationRequest::decode(request.as_slice()) else {
            continue;
        };
        match request.input.unwrap_or_default().kind {
            Some(Kind::ExampleList(list)) => seeds.extend(list.examples),
            Some(Kind::ExampleListWithContext(list)) => {
                seeds.extend(list.examples);
                seeds.push(list.context);
            }
            None => {}
        }
    }
    let text = fs::read(data().join("examples/cases.json")).unwrap();
    let cases: Value = serde_json::from_slice(&text).unwrap();
    let examples = cases["cases"].as_array().unwrap().iter();
    let examples = examples.flat_map(|case| case["examples"].as_array().into_iter().flatten());
    let mut seeds: Vec<Vec<u8>> = seeds.into_iter().map(|it| it.to_vec()).collect();
    seeds.extend(examples.filter_map(bytes));
    seeds
}

/// By the selector of the type.
const CONFIGS: &[(usize, &str)] = &[
    (
        1,
        "max_batch_size { value: 8 } batch_timeout_micros { value: 5 } max_enqueued_batches { value: 7 } \
         num_batch_threads { value: 3 } thread_pool_name { value: 'pool' } allowed_batch_sizes: [2, 8] \
         pad_variable_length_inputs: true enable_large_batch_splitting { value: true }",
    ),
    (
        3,
        "server_key: '-----BEGIN PRIVATE KEY-----\\n' server_cert: \"a\" 'b' client_verify: false",
    ),
    (
        4,
        "identity { name: 'a' token_sha256: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' \
         predict: '*' status: 'm' } identity { name: 'b' certificate_subject: 'b' } metrics_need_identity: true",
    ),
    (
        5,
        "signature { input < alias: 'x' shape { dim { size: -1 } unknown_rank: true } > output { alias: 'y' top_k: 0x7 } }",
    ),
    (
        6,
        "intra_op_parallelism_threads: 2 gpu_options { allow_growth: 1 } device_count { key: 'CPU' value: 1 }",
    ),
    (
        0,
        "# a comment\nmodel_config_list: { config: [{ name: 'm', base_path: '/m\\x2f\\057' ; \
         model_version_policy { latest { num_versions: 2 } } logging_config { sampling_config { \
         sampling_rate: 1e-3 } log_collector_config { type: 'file' filename_prefix: '/l' } } }] }",
    ),
    (
        0,
        "custom_model_config { [type.googleapis.com/tensorflow.serving.SslConfig] { server_key: 'k' } }",
    ),
];

pub(super) fn config_text() -> Vec<Vec<u8>> {
    let text = fs::read(data().join("golden/setups.json")).unwrap();
    let setups: Value = serde_json::from_slice(&text).unwrap();
    let mut seeds: Vec<Vec<u8>> = CONFIGS
        .iter()
        .map(|&(selector, text)| chosen(selector, text.as_bytes()))
        .collect();
    for setup in setups.as_object().unwrap().values() {
        for (name, text) in setup["files"].as_object().into_iter().flatten() {
            let selector = match name.as_str() {
                name if name.starts_with("batching") => 1,
                name if name.starts_with("monitoring") => 2,
                _ => 0,
            };
            let seed = chosen(selector, text.as_str().unwrap().as_bytes());
            if !seeds.contains(&seed) {
                seeds.push(seed);
            }
        }
    }
    seeds.extend(files(".pbtxt").iter().map(|map| chosen(5, map)));
    seeds
}

/// The files under `tests/data` with this ending, each content once.
fn files(ending: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut folders = vec![data().join("golden/models"), data().join("zoo")];
    while let Some(folder) = folders.pop() {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(ending)
                && path.metadata().unwrap().len() <= MAX_BYTES
            {
                let contents = fs::read(path).unwrap();
                if !found.contains(&contents) {
                    found.push(contents);
                }
            }
        }
    }
    found
}

pub(super) fn onnx_model() -> Vec<Vec<u8>> {
    let files = files(".onnx");
    let numbered = files.iter().enumerate();
    numbered
        .flat_map(|(number, file)| {
            let companion = number % onnx_model::COMPANIONS.len();
            [chosen(0, file), chosen(companion, file)]
        })
        .collect()
}

pub(super) fn saved_model() -> Vec<Vec<u8>> {
    files("saved_model.pb")
}

/// One more than for `saved_model`: a model with variables, which the target has.
pub(super) fn import() -> Vec<Vec<u8>> {
    let with_variables = include_bytes!("../../../models/xor/1/saved_model.pb");
    let mut seeds = files("saved_model.pb");
    seeds.push(with_variables.to_vec());
    seeds
}

/// An index that TensorFlow wrote, and blocks: plain, empty and compressed by Snappy.
pub(super) fn checkpoint_table() -> Vec<Vec<u8>> {
    let index =
        include_bytes!("../../../crates/saved_model_import/testdata/checkpoint/variables.index");
    // The block with the entries, without its kind and its checksum.
    let block = &index[..324];
    let restarts = &[0, 0, 0, 0, 1, 0, 0, 0];
    // A key `a` with the value `b`, then `ac` with `d`, which shares a byte.
    let entries = &[0, 1, 1, b'a', b'b', 1, 1, 1, b'c', b'd'];
    let small = [&entries[..], restarts].concat();
    // Its length, and a literal of that many bytes.
    let compressed = [&[18, 17 << 2], &small[..]].concat();
    vec![
        index.to_vec(),
        chosen(0, block),
        chosen(0, restarts),
        chosen(0, &small),
        chosen(1, &compressed),
    ]
}

/// Entries in protobuf's wire form: dtype, shape, offset, size and parts.
pub(super) fn checkpoint() -> Vec<Vec<u8>> {
    let seed = |whole: &[u8], part: &[u8], shard: &[u8]| {
        let (whole, part) = (chosen(whole.len(), whole), chosen(part.len(), part));
        [&whole[..], &part, shard].concat()
    };
    let floats = &[0x08, 1, 0x12, 4, 0x12, 2, 0x08, 4, 0x28, 16];
    let at_an_offset = &[0x08, 6, 0x12, 4, 0x12, 2, 0x08, 4, 0x20, 3, 0x28, 4];
    // Bytes, in parts from 0 and 2, each of 2.
    let first = &[0x3a, 4, 0x0a, 2, 0x10, 2];
    let second = &[0x3a, 6, 0x0a, 4, 0x08, 2, 0x10, 2];
    let parts = [&[0x08, 6, 0x12, 4, 0x12, 2, 0x08, 4], &first[..], second].concat();
    let part = &[0x08, 6, 0x12, 4, 0x12, 2, 0x08, 2, 0x28, 2];
    let strings = &[0x08, 7, 0x12, 4, 0x12, 2, 0x08, 1, 0x28, 6];
    vec![
        seed(floats, &[], &[0; 16]),
        seed(at_an_offset, &[], b"0123456"),
        seed(&parts, part, b"abcd"),
        seed(&parts, part, b"abcde"),
        seed(strings, &[], &[1, 0, 0, 0, 0, b'a']),
    ]
}

/// One for each set of graphs that fits it, so that damage hits a working map.
const MAPS: &[(usize, &str)] = &[
    (
        0,
        "signature { input { alias: 'a' tensor: 'x' } output { alias: 'b' tensor: 'y' dtype: DT_DOUBLE } }",
    ),
    (
        2,
        "signature { output { alias: 'scores' labels { file: 'labels.txt' } top_k: 2 } }",
    ),
    (2, "signature { output { alias: 'label' tensor: 'label' } }"),
    (
        3,
        "signature { input { alias: 'text' tensor: 'x' keep: true } output { alias: 'y' drop: true } }",
    ),
    (
        0,
        "signature { input { alias: 'a' tensor: 'x' keep: true } output { alias: 'y' tensor: 'x' } }",
    ),
    (
        4,
        "signature { name: 'regress_x_to_y' input { alias: 'inputs' transpose: [1, 0] reshape: [0, -1] } }",
    ),
];

pub(super) fn signature_map() -> Vec<Vec<u8>> {
    let inline = MAPS
        .iter()
        .map(|&(graphs, map)| chosen(graphs, map.as_bytes()));
    let files = files(".pbtxt");
    let every = (0..signature_map::GRAPHS.len())
        .flat_map(|graphs| files.iter().map(move |map| chosen(graphs, map)));
    inline.chain(every).collect()
}

pub(super) fn tfrecord() -> Vec<Vec<u8>> {
    let log = |log_type| pb::PredictionLog {
        log_metadata: Some(pb::LogMetadata::default()),
        log_type: Some(log_type),
    };
    let predict = sent("/Predict").into_iter().filter_map(|request| {
        let request = pb::PredictRequest::decode(request.as_slice()).ok();
        Some(log(LogType::PredictLog(pb::PredictLog {
            request: Some(request?),
            response: None,
        })))
    });
    let classify = sent("/Classify").into_iter().filter_map(|request| {
        let request = pb::ClassificationRequest::decode(request.as_slice()).ok();
        Some(log(LogType::ClassifyLog(pb::ClassifyLog {
            request: Some(request?),
            response: None,
        })))
    });
    let multi = sent("/MultiInference").into_iter().filter_map(|request| {
        let request = pb::MultiInferenceRequest::decode(request.as_slice()).ok();
        Some(log(LogType::MultiInferenceLog(pb::MultiInferenceLog {
            request: Some(request?),
            response: None,
        })))
    });
    let logs: Vec<Vec<u8>> = predict
        .chain(classify)
        .chain(multi)
        .map(|log| log.encode_to_vec())
        .collect();
    let files = logs.chunks(5).map(|logs| {
        let mut file = Vec::new();
        logs.iter().for_each(|log| append_record(&mut file, log));
        file
    });
    files.chain(logs.iter().cloned()).collect()
}
