//! The table of `docs/backends.md`: which models of the zoo each backend serves.

use std::collections::BTreeMap;
use std::fs;

use crate::support::material;

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    OnnxRuntime,
    #[cfg_attr(not(feature = "tract"), expect(dead_code, reason = "not built"))]
    Tract,
}

impl Backend {
    /// The value of `--backend`.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "onnxruntime",
            Self::Tract => "tract",
        }
    }
}

/// The column of one backend.
pub(crate) struct Documented {
    backend: Backend,
    /// By the model's folder: `served`, or the reason why not.
    cells: BTreeMap<String, String>,
}

impl Documented {
    pub(crate) fn read(backend: Backend) -> Self {
        let text = fs::read_to_string(material::root().join("docs/backends.md")).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| `"));
        let cells = rows.filter_map(|row| {
            let mut cells = row.trim_matches('|').split('|').map(str::trim);
            let model = cells.next()?.trim_matches('`').to_owned();
            let cell = cells.nth(backend as usize)?;
            Some((model, cell.to_owned()))
        });
        Self {
            backend,
            cells: cells.collect(),
        }
    }

    /// Checks that the table lists a model as served, or as refused with a word of the reason.
    pub(crate) fn check(&self, model: &str, refusal: Option<&str>) -> Result<(), String> {
        let cell = self.cells.get(model).map_or("", String::as_str);
        let is_right = match refusal {
            None => cell == "served",
            Some(error) => {
                let named = cell
                    .strip_prefix("no: `")
                    .and_then(|it| it.strip_suffix('`'));
                named.is_some_and(|named| error.contains(named))
            }
        };
        let outcome = refusal.unwrap_or("served");
        let column = self.backend.flag();
        is_right.then_some(()).ok_or_else(|| {
            format!("docs/backends.md says '{cell}' of {model}, {column}; it is: {outcome}")
        })
    }
}
