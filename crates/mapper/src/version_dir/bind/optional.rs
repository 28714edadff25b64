//! Graph inputs for which the file has a default. Clients can send them. Requests without them run on a
//! second graph, in which the default is a constant.
//!
//! Not here: finding these inputs (`onnx`), choosing the graph for a request (`servable`).

use super::{Binder, BoundSignature};
use crate::signature::{Feed, Input, SignatureDef};
use base::error::{Result, ServingError};
use base::tensor::Tensor;
use codec::tensor_proto::message::to_message;
use onnx::Transform;

/// Larger defaults are not shown to clients.
const MAX_SHOWN_BYTES: usize = 64 << 10;

impl Binder<'_> {
    /// Turns inputs that have a default and no alias into constants.
    pub(super) fn leave_defaults(&mut self) -> Result<()> {
        let fed = self.fed();
        let left = self.needed().into_iter();
        let left: Vec<String> = left.filter(|it| !fed.contains(it.as_str())).collect();
        for name in left {
            if let Some(default) = self.model.default_of(&name).cloned() {
                self.model.set_constant(&name, &default)?;
            }
        }
        Ok(())
    }

    /// The default of an input for which the graph has one, as the client would send it.
    pub(super) fn default(
        &self,
        alias: &str,
        tensor: &str,
        transform: &Transform,
    ) -> Result<Option<Tensor>> {
        let Some(of_file) = self.model.default_of(tensor) else {
            return Ok(None);
        };
        if let Some(declared) = self.declaration.defaults()?.remove(alias) {
            return Ok(Some(declared));
        }
        let undone = transform.undone(of_file).ok_or_else(|| {
            let error = ServingError::invalid_argument(
                "the graph has a default for it, which cannot be said in the terms of clients; give it \
                 a default in the map",
            );
            self.explain(&format!("input '{alias}'"), error)
        })?;
        Ok(Some(undone))
    }
}

impl BoundSignature {
    /// The same signature on a graph without the inputs that can be omitted; `None` if all inputs have to
    /// be sent.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if a default has another type than its input.
    pub(in crate::version_dir) fn without_optional(&self) -> Result<Option<Self>> {
        if self.optional.is_empty() {
            return Ok(None);
        }
        let mut model = self.model.clone();
        let mut feeds = self.feeds.clone();
        for (name, feed) in &self.feeds {
            let Feed::Input(index) = feed else {
                continue;
            };
            let input = self.signature.inputs.get(*index);
            let default = input.and_then(|it| self.optional.get(&it.alias));
            if let Some(default) = default {
                model.set_constant(name, default)?;
                feeds.remove(name);
            }
        }
        Ok(Some(Self {
            signature: self.signature.clone(),
            model,
            feeds,
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            fetches: self.fetches.clone(),
            optional: self.optional.clone(),
        }))
    }
}

/// Adds the inputs' defaults to the metadata, under all of their aliases.
pub(super) fn show_defaults(
    definition: &mut SignatureDef,
    inputs: &[Input],
    kept: &[(String, String)],
) {
    for input in inputs.iter().filter(|it| it.graph_has_default) {
        let Some(default) = &input.default else {
            continue;
        };
        let bytes = match (default.bytes(), default.strings()) {
            (Some(bytes), _) => bytes.len(),
            (_, strings) => strings
                .unwrap_or_default()
                .iter()
                .map(bytes::Bytes::len)
                .sum(),
        };
        if bytes <= MAX_SHOWN_BYTES {
            let defaults = &mut definition.defaults;
            let shown = defaults.entry(input.alias.clone());
            shown.or_insert_with(|| to_message(default));
        }
    }
    for (kept, new) in kept {
        if let Some(default) = definition.defaults.get(new) {
            let default = default.clone();
            definition.defaults.insert(kept.clone(), default);
        }
    }
}
