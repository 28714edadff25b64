//! Recorded exchanges from `*.jsonl`, and the servers they were recorded on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::json::{Json, Tolerance};
use crate::support::{http, proto};

/// One exchange.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) group: String,
    pub(crate) setup: String,
    /// Its place in a sequence.
    pub(crate) seq: i64,
    /// The server needs up to this long to settle afterwards.
    pub(crate) pause: Duration,
    pub(crate) request: Request,
}

/// The request, and the expected response.
#[derive(Debug)]
pub(crate) enum Request {
    Rest {
        bytes: Vec<u8>,
        expect: RestExpect,
    },
    Grpc {
        method: String,
        message: Vec<u8>,
        timeout: Option<Duration>,
        metadata: Vec<(String, String)>,
        expect: GrpcExpect,
    },
}

/// The recorded HTTP response, and how to compare.
#[derive(Debug)]
pub(crate) struct RestExpect {
    pub(crate) statuses: Vec<i64>,
    pub(crate) compare: String,
    pub(crate) body: Vec<u8>,
    pub(crate) headers_subset: Vec<(String, String)>,
    pub(crate) headers_absent: Vec<String>,
    pub(crate) body_contains: Vec<String>,
    pub(crate) is_layout_lines: bool,
    pub(crate) tolerance: Tolerance,
}

/// The recorded gRPC response, and how to compare.
#[derive(Debug)]
pub(crate) struct GrpcExpect {
    pub(crate) codes: Vec<String>,
    pub(crate) details: String,
    pub(crate) details_compare: String,
    /// The response, if the code is OK and its content counts.
    pub(crate) message: Option<Vec<u8>>,
    pub(crate) ignored_fields: BTreeSet<String>,
    pub(crate) tolerance: Tolerance,
}

/// Flags and files of a server.
#[derive(Debug)]
pub(crate) struct Setup {
    flags: Vec<String>,
    files: Vec<(String, String)>,
}

impl Setup {
    /// Writes the files to `folder` and returns the flags that name them. A model that does not load
    /// fails the test immediately.
    pub(crate) fn write(&self, models: &Path, folder: &Path) -> Vec<String> {
        let mut flags = self.flags.clone();
        flags.push("--max_num_load_retries=0".to_owned());
        for (name, text) in &self.files {
            let path = folder.join(name);
            fs::write(&path, with_models(text, models)).unwrap();
            for flag in &mut flags {
                *flag = flag.replace(&format!("${{FILE:{name}}}"), &path.display().to_string());
            }
        }
        flags
    }

    /// Serves `<name>_cut` under the name of each of these models.
    pub(crate) fn cut(&mut self, models: &[&str]) {
        for (_, text) in &mut self.files {
            for name in models {
                let base_path = |end: &str| format!("'${{MODELS}}/{name}{end}'");
                *text = text.replace(&base_path(""), &base_path("_cut"));
            }
        }
    }

    /// The models' names.
    pub(crate) fn models(&self) -> Vec<&str> {
        let texts = self
            .files
            .iter()
            .filter(|(name, _)| name == "models.config");
        let parts = texts.flat_map(|(_, text)| text.split("name: '").skip(1));
        parts.filter_map(|part| part.split('\'').next()).collect()
    }
}

/// Reads `setups.json`.
pub(crate) fn read_setups(file: &Path) -> BTreeMap<String, Setup> {
    let json = Json::parse(&fs::read(file).unwrap()).unwrap();
    let setup = |json: &Json| Setup {
        flags: texts(json.get("flags")),
        files: pairs(json.get("files")),
    };
    let members = json.members().expect("an object").iter();
    members
        .map(|(name, json)| (text_of(name), setup(json)))
        .collect()
}

/// Reads a file of exchanges; `models` is the folder with the models of its setups.
pub(crate) fn read_cases(file: &Path, models: &Path) -> Vec<Case> {
    let lines = fs::read_to_string(file).unwrap();
    let parse = |line: &str| parse_case(&Json::parse(line.as_bytes()).unwrap(), models);
    lines.lines().map(parse).collect()
}

fn parse_case(json: &Json, models: &Path) -> Case {
    let (request, expect) = (member(json, "request"), member(json, "expect"));
    let request = match text(json, "protocol").as_str() {
        "rest" => Request::Rest {
            bytes: rest_bytes(request),
            expect: rest_expect(expect),
        },
        _ => Request::Grpc {
            method: text(request, "service_method"),
            message: grpc_message(request, models),
            timeout: number(request, "timeout_ms").map(Duration::from_millis),
            metadata: metadata(request),
            expect: grpc_expect(expect),
        },
    };
    Case {
        id: text(json, "id"),
        group: text(json, "group"),
        setup: text(json, "setup"),
        seq: json.get("seq").and_then(Json::as_i64).unwrap_or(0),
        pause: Duration::from_millis(number(json, "pause_ms").unwrap_or(0)),
        request,
    }
}

fn rest_bytes(request: &Json) -> Vec<u8> {
    if let Some(raw) = bytes(request, "raw_request") {
        return raw;
    }
    let headers = pairs(request.get("headers"));
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let (method, path) = (text(request, "method"), text(request, "path"));
    http::request(&method, &path, &headers, bytes(request, "body").as_deref())
}

fn rest_expect(expect: &Json) -> RestExpect {
    RestExpect {
        statuses: one_or_more(member(expect, "http_status"))
            .iter()
            .filter_map(Json::as_i64)
            .collect(),
        compare: text(expect, "compare"),
        body: bytes(expect, "body").unwrap_or_default(),
        headers_subset: pairs(expect.get("headers_subset")),
        headers_absent: texts(expect.get("headers_absent")),
        body_contains: texts(expect.get("body_contains")),
        is_layout_lines: expect.get("layout").and_then(Json::as_str) == Some("lines"),
        tolerance: tolerance(expect.get("tolerance")),
    }
}

fn grpc_message(request: &Json, models: &Path) -> Vec<u8> {
    if let Some(message) = bytes(request, "message") {
        return message;
    }
    let message_text = with_models(&text(request, "message_textproto"), models);
    let message = proto::from_text(&text(request, "message_type"), &message_text).unwrap();
    prost::Message::encode_to_vec(&message)
}

fn grpc_expect(expect: &Json) -> GrpcExpect {
    let is_compared = expect.get("compare").and_then(Json::as_str) == Some("proto");
    GrpcExpect {
        codes: one_or_more(member(expect, "code"))
            .iter()
            .filter_map(|code| code.as_str().map(str::to_owned))
            .collect(),
        details: text(expect, "details"),
        details_compare: text(expect, "details_compare"),
        message: bytes(expect, "message").filter(|_| is_compared),
        ignored_fields: texts(expect.get("ignore_fields")).into_iter().collect(),
        tolerance: tolerance(expect.get("tolerance")),
    }
}

fn metadata(request: &Json) -> Vec<(String, String)> {
    let list = request
        .get("metadata")
        .and_then(Json::as_array)
        .unwrap_or_default();
    list.iter()
        .map(|pair| {
            let pair = texts(Some(pair));
            (pair[0].clone(), pair[1].clone())
        })
        .collect()
}

/// A tolerance of the recordings; none is exact.
pub(crate) fn tolerance(json: Option<&Json>) -> Tolerance {
    let part = |name| json.and_then(|json| json.get(name)).and_then(Json::as_f64);
    Tolerance {
        abs: part("abs").unwrap_or(0.0),
        rel: part("rel").unwrap_or(0.0),
    }
}

fn with_models(text: &str, models: &Path) -> String {
    text.replace("${MODELS}", &models.display().to_string())
}

fn member<'a>(json: &'a Json, name: &str) -> &'a Json {
    json.get(name).unwrap_or_else(|| panic!("no member {name}"))
}

fn text(json: &Json, name: &str) -> String {
    member(json, name).as_str().expect("a text").to_owned()
}

fn number(json: &Json, name: &str) -> Option<u64> {
    json.get(name).and_then(Json::as_i64)?.try_into().ok()
}

fn texts(json: Option<&Json>) -> Vec<String> {
    let list = json.and_then(Json::as_array).unwrap_or_default();
    list.iter()
        .map(|text| text.as_str().expect("a text").to_owned())
        .collect()
}

fn pairs(json: Option<&Json>) -> Vec<(String, String)> {
    let members = json.and_then(Json::members).unwrap_or_default();
    members
        .iter()
        .map(|(name, value)| (text_of(name), value.as_str().expect("a text").to_owned()))
        .collect()
}

fn one_or_more(json: &Json) -> &[Json] {
    json.as_array().unwrap_or(std::slice::from_ref(json))
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The bytes of `<name>_b64` or `<name>_gz_b64`.
fn bytes(json: &Json, name: &str) -> Option<Vec<u8>> {
    let decode = |json: &Json| STANDARD.decode(json.as_str().expect("base64")).unwrap();
    if let Some(plain) = json.get(&format!("{name}_b64")) {
        return Some(decode(plain));
    }
    let packed = decode(json.get(&format!("{name}_gz_b64"))?);
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice())
        .read_to_end(&mut bytes)
        .unwrap();
    Some(bytes)
}
