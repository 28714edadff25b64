//! The format of a file according to its first and last bytes.

use super::Foreign;

/// How many bytes of a file's beginning are examined.
pub const MAX_HEAD: usize = 4096;
/// How many bytes of a file's end are examined.
pub const MAX_TAIL: usize = 64 << 10;

/// The parts of a file that reveal its format.
pub struct Sample<'a> {
    /// The first bytes, at most [`MAX_HEAD`].
    pub head: &'a [u8],
    /// The last bytes, at most [`MAX_TAIL`]; can overlap with `head`.
    pub tail: &'a [u8],
    /// The size of the whole file, in bytes.
    pub size: u64,
}

impl<'a> Sample<'a> {
    /// For a file in memory.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self {
            head: &bytes[..bytes.len().min(MAX_HEAD)],
            tail: &bytes[bytes.len().saturating_sub(MAX_TAIL)..],
            size: bytes.len() as u64,
        }
    }

    fn mentions(&self, text: &str) -> bool {
        has(self.head, text.as_bytes()) || has(self.tail, text.as_bytes())
    }
}

/// Formats by their first bytes.
const MAGIC: &[(&[u8], Foreign)] = &[
    (b"\x89HDF\r\n\x1a\n", Foreign::Hdf5),
    (b"GGUF", Foreign::Gguf),
    (b"ggml", Foreign::Gguf),
    (b"\x93NUMPY", Foreign::NumPy),
    (b"CBM1", Foreign::CatBoost),
    (b"binf", Foreign::XgBoost),
    (b"{L\x00\x00\x00\x00\x00\x00", Foreign::XgBoost),
    (b"ftrt", Foreign::TensorRt),
    (b"\x1f\x8b", Foreign::Archive),
    (b"BZh", Foreign::Archive),
    (b"\xfd7zXZ\x00", Foreign::Archive),
    (b"\x28\xb5\x2f\xfd", Foreign::Archive),
    (b"\x04\x22\x4d\x18", Foreign::Archive),
    (b"7z\xbc\xaf\x27\x1c", Foreign::Archive),
    (b"Rar!", Foreign::Archive),
    (b"\x7fELF", Foreign::Executable),
    (b"MZ", Foreign::Executable),
];

/// The format of a file that is not, or might not be, an ONNX model; `None` if its bytes do not tell.
pub fn of_contents(sample: &Sample<'_>) -> Option<Foreign> {
    let head = sample.head;
    if head.is_empty() {
        return Some(Foreign::Empty);
    }
    if head.iter().chain(sample.tail).all(|&byte| byte == 0) {
        return Some(Foreign::Zeros);
    }
    let mut magic = MAGIC.iter();
    if let Some((_, foreign)) = magic.find(|(magic, _)| head.starts_with(magic)) {
        return Some(*foreign);
    }
    match head.get(4..8) {
        Some(b"TFL3") => return Some(Foreign::TfLite),
        Some(b"ORTM") => return Some(Foreign::OrtFormat),
        _ => {}
    }
    if head.starts_with(b"PK\x03\x04") {
        return Some(of_zip(sample));
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some(Foreign::Archive);
    }
    if is_pickle(head) {
        return Some(match has(head, b"torch") || has(head, TORCH_MAGIC) {
            true => Foreign::Torch,
            false => Foreign::Pickle,
        });
    }
    if is_safetensors(sample) {
        return Some(Foreign::Safetensors);
    }
    of_text(sample).or_else(|| of_protobuf(head))
}

/// The number at the beginning of PyTorch's old format, as Python pickles it.
const TORCH_MAGIC: &[u8] = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// Several formats are ZIP archives of files with certain names.
fn of_zip(sample: &Sample<'_>) -> Foreign {
    let names: &[(&str, Foreign)] = &[
        ("model.weights.h5", Foreign::Keras),
        ("serialized_exported_program", Foreign::TorchExport),
        ("archive_format", Foreign::TorchExport),
        ("data.pkl", Foreign::Torch),
        ("MAR-INF/", Foreign::Torch),
        ("dlc.metadata", Foreign::Dlc),
        ("model.ini", Foreign::Mojo),
        (".npy", Foreign::NumPy),
    ];
    let mut names = names.iter();
    let found = names.find(|(name, _)| sample.mentions(name));
    found.map_or(Foreign::Archive, |(_, foreign)| *foreign)
}

/// The opcode PROTO of protocol 2 and later, followed by another opcode.
fn is_pickle(head: &[u8]) -> bool {
    let opcodes = b"c}](X\x8a\x8c\x95KGN)q\x58";
    matches!(head, [0x80, 2..=5, next, ..] if opcodes.contains(next))
}

/// Whether the file begins with the length of a JSON header and then the header.
fn is_safetensors(sample: &Sample<'_>) -> bool {
    let Some((length, rest)) = sample.head.split_first_chunk::<8>() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    rest.starts_with(b"{\"") && length >= 2 && length <= sample.size
}

fn of_text(sample: &Sample<'_>) -> Option<Foreign> {
    let text = decoded(sample.head)?.to_ascii_lowercase();
    let text = text.trim_start();
    let has = |part: &str| text.contains(part);
    if let Some(pointer) = of_pointer(text) {
        return Some(pointer);
    }
    Some(match text.as_bytes().first() {
        Some(b'<') => of_markup(text),
        Some(b'{') if has("\"learner\"") => Foreign::XgBoost,
        Some(b'{') if has("\"modeltopology\"") || has("\"weightsmanifest\"") => {
            Foreign::TensorFlowJs
        }
        Some(b'{') if sample.mentions("\"irVersion\"") || sample.mentions("\"ir_version\"") => {
            Foreign::OnnxJson
        }
        Some(b'{' | b'[') => Foreign::Json,
        Some(_) if text.starts_with("ir_version") => Foreign::OnnxText,
        Some(_) if text.starts_with("tree\n") => Foreign::LightGbm,
        Some(_) if text.starts_with("saved_model_schema_version") => Foreign::SavedModelText,
        None | Some(_) => Foreign::Text,
    })
}

/// The text of a file's beginning, in UTF-8, an older encoding or UTF-16; `None` if it is not text.
fn decoded(head: &[u8]) -> Option<String> {
    let units = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, _) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|&pair| unit(pair)).collect();
        String::from_utf16_lossy(&units)
    };
    let text = match head {
        [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes),
        // Markup without a byte order mark.
        [b'<', 0, ..] => units(head, u16::from_le_bytes),
        [0, b'<', ..] => units(head, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        // A character can be cut in two at the end.
        _ => match std::str::from_utf8(head) {
            Ok(text) => text.to_owned(),
            Err(error) if error.error_len().is_none() => {
                String::from_utf8_lossy(&head[..error.valid_up_to()]).into_owned()
            }
            // A page in another encoding, recognised by its form.
            Err(_) if head.trim_ascii_start().starts_with(b"<") => {
                String::from_utf8_lossy(head).into_owned()
            }
            Err(_) => return None,
        },
    };
    let is_text = |c: char| matches!(c, '\t' | '\n' | '\r' | '\x0c') || !c.is_ascii_control();
    text.chars().all(is_text).then_some(text)
}

/// The kind of pointer that a clone holds in place of a file; lower case.
fn of_pointer(text: &str) -> Option<Foreign> {
    let is_version = |line: &str| {
        let address = line.trim().strip_prefix("version http");
        let hosts = ["://git-lfs.github.com/", "://hawser.github.com/"];
        address.is_some_and(|it| {
            hosts
                .iter()
                .any(|host| it.trim_start_matches('s').starts_with(host))
        })
    };
    if text.lines().take(MAX_POINTER_LINES).any(is_version) {
        return Some(Foreign::GitLfsPointer);
    }
    let line = text.trim_end();
    let is_annex = line.starts_with("/annex/objects/") || line.contains(".git/annex/objects/");
    (is_annex && line.lines().count() <= MAX_POINTER_LINES).then_some(Foreign::GitAnnexPointer)
}

/// Text that begins with `<`; lower case.
fn of_markup(text: &str) -> Foreign {
    let has = |part: &str| text.contains(part);
    let named = |name: &str| {
        let mut places = text.match_indices(name);
        places.any(|(at, _)| {
            let after = text.as_bytes().get(at + name.len());
            !after.is_some_and(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'-' | b':'))
        })
    };
    if is_onnx_header(text) {
        return Foreign::OnnxPrinted;
    }
    if named("<pmml") {
        return Foreign::Pmml;
    }
    if named("<net") && has("<layers") {
        return Foreign::OpenVino;
    }
    let is_document = named("<!doctype html") || named("<html");
    // Pages need not name themselves; XML can use the same element names.
    let is_fragment = !text.starts_with("<?xml") && HTML_ELEMENTS.iter().any(|it| named(it));
    match is_document || is_fragment {
        true => Foreign::Html,
        false => Foreign::Xml,
    }
}

/// Whether this is the beginning of `onnx.printer` output: the model's fields between `<` and `>`.
fn is_onnx_header(text: &str) -> bool {
    let fields = [
        "ir_version",
        "opset_import",
        "producer_",
        "domain",
        "model_version",
    ];
    let header = text.trim_start_matches('<').trim_start();
    let (header, _) = header.split_once('>').unwrap_or((header, ""));
    fields.iter().any(|field| header.starts_with(field)) && header.contains(':')
}

/// Elements at the beginning of pages without a head of their own.
const HTML_ELEMENTS: &[&str] = &[
    "<head",
    "<body",
    "<title",
    "<script",
    "<noscript",
    "<meta",
    "<style",
    "<center",
    "<div",
    "<h1",
    "<h2",
    "<p",
    "<pre",
    "<table",
    "<iframe",
    "<form",
    "<br",
];

/// Pointers are short.
const MAX_POINTER_LINES: usize = 8;

/// TensorFlow's messages, and the beginning of ONNX's own.
fn of_protobuf(head: &[u8]) -> Option<Foreign> {
    match head {
        // saved_model_schema_version 1, then a meta graph that begins with its information.
        [0x08, 0x01, 0x12, ..] => Some(Foreign::SavedModel),
        // ir_version, then one of ModelProto's other fields.
        [
            0x08,
            3..=0x7f,
            0x12 | 0x1a | 0x22 | 0x2a | 0x32 | 0x3a | 0x42 | 0x72,
            ..,
        ] => Some(Foreign::CutOff),
        [0x0a, ..] if is_graph_def(head) => Some(Foreign::FrozenGraph),
        _ => None,
    }
}

/// Whether this begins with a NodeDef: a name and an operator.
fn is_graph_def(head: &[u8]) -> bool {
    let after_key = |bytes: &'_ [u8], key: u8| bytes.first() == Some(&key);
    let Some((_, node)) = length_of(&head[1..]) else {
        return false;
    };
    if !after_key(node, 0x0a) {
        return false;
    }
    let Some((name, rest)) = length_of(&node[1..]) else {
        return false;
    };
    let Some(rest) = rest.get(name..) else {
        return false;
    };
    if !after_key(rest, 0x12) {
        return false;
    }
    let Some((length, op)) = length_of(&rest[1..]) else {
        return false;
    };
    let op = op.get(..length).unwrap_or_default();
    op.first().is_some_and(u8::is_ascii_uppercase) && op.iter().all(u8::is_ascii_alphanumeric)
}

/// A varint of up to five bytes, and the bytes after it.
fn length_of(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    for (index, &byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
