//! Weights stored in files next to the model.
//!
//! Once read, a model is the same wherever its weights were stored. The data of the main graph's tensors are
//! views of the files; those of nested graphs, functions and attributes, which are small, are copied.
//!
//! Not here: which files are allowed (`mapper::version_dir`), how weights reach a backend (`weights`).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::num::ParseIntError;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;

use super::text::NotUtf8;
use super::{OnnxModel, traverse};
use base::error::{Result, ServingError};
use proto::onnx::{GraphProto, NodeProto, TensorProto, tensor_proto::DataLocation};

/// Contents of the files, by the name in the model.
struct Files<'a> {
    origin: &'a str,
    read: &'a mut dyn FnMut(&Path) -> Result<Bytes>,
    /// The bytes of texts that are not UTF-8.
    not_utf8: &'a NotUtf8,
    by_location: BTreeMap<String, Bytes>,
}

impl OnnxModel {
    /// Reads the external data that the model names, each file once, through `read`, which decides
    /// whether a name is allowed.
    ///
    /// # Errors
    ///
    /// Those of `read`; `INVALID_ARGUMENT` if a tensor's range is not inside its file.
    pub fn read_external_data(
        &mut self,
        read: &mut dyn FnMut(&Path) -> Result<Bytes>,
    ) -> Result<()> {
        let mut files = Files {
            origin: &self.origin,
            read,
            not_utf8: &self.not_utf8,
            by_location: BTreeMap::new(),
        };
        let graph = self.proto.graph.as_mut().expect("checked by parse");
        for tensor in &mut graph.initializer {
            if is_external(tensor) {
                let data = files.slice(tensor)?;
                move_in(tensor, data);
            }
        }
        files.inline_sparse(graph)?;
        files.inline_nodes(&mut graph.node)?;
        for function in &mut self.proto.functions {
            files.inline_nodes(&mut function.node)?;
        }
        for training in &self.proto.training_info {
            if training.initialization.is_some() || training.algorithm.is_some() {
                tracing::debug!(origin = files.origin, "training graphs are left out");
            }
        }
        self.proto.training_info.clear();
        Ok(())
    }
}

impl Files<'_> {
    /// The bytes of an external tensor, a slice of its file.
    fn slice(&mut self, tensor: &TensorProto) -> Result<Bytes> {
        let location = location(tensor);
        let contents = match self.by_location.get(location) {
            Some(contents) => contents.clone(),
            None => {
                let original = self.not_utf8.get(location);
                let path = original.map_or(location.as_ref(), |it| OsStr::from_bytes(it));
                let contents = (self.read)(Path::new(path))?;
                self.by_location
                    .insert(location.to_owned(), contents.clone());
                contents
            }
        };
        let outside = || {
            ServingError::invalid_argument(format!(
                "{}: the data of '{}' is not inside '{location}' ({} bytes)",
                self.origin,
                tensor.name(),
                contents.len()
            ))
        };
        let offset = self.number(tensor, "offset")?.unwrap_or(0);
        let available = contents.len().checked_sub(offset).ok_or_else(outside)?;
        let length = self.number(tensor, "length")?.unwrap_or(available);
        if length > available {
            return Err(outside());
        }
        Ok(contents.slice(offset..offset + length))
    }

    fn number(&self, tensor: &TensorProto, key: &str) -> Result<Option<usize>> {
        let Some(text) = entry(tensor, key) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|error: ParseIntError| {
            ServingError::invalid_argument(format!(
                "{}: the {key} of the external data of '{}' is not a number: '{text}'",
                self.origin,
                tensor.name()
            ))
            .caused_by(error)
        })
    }

    fn inline(&mut self, tensor: &mut TensorProto) -> Result<()> {
        if !is_external(tensor) {
            return Ok(());
        }
        let data = Bytes::copy_from_slice(&self.slice(tensor)?);
        move_in(tensor, data);
        Ok(())
    }

    fn inline_sparse(&mut self, graph: &mut GraphProto) -> Result<()> {
        for sparse in &mut graph.sparse_initializer {
            for tensor in sparse.values.iter_mut().chain(&mut sparse.indices) {
                self.inline(tensor)?;
            }
        }
        Ok(())
    }

    fn inline_nodes(&mut self, nodes: &mut [NodeProto]) -> Result<()> {
        for node in nodes {
            for attribute in &mut node.attribute {
                let sparse = attribute.sparse_tensor.iter_mut();
                let sparse = sparse.chain(&mut attribute.sparse_tensors);
                let sparse = sparse.flat_map(|it| it.values.iter_mut().chain(&mut it.indices));
                let dense = attribute.t.iter_mut().chain(&mut attribute.tensors);
                for tensor in dense.chain(sparse) {
                    self.inline(tensor)?;
                }
            }
            for graph in traverse::subgraphs_mut(node) {
                for tensor in &mut graph.initializer {
                    self.inline(tensor)?;
                }
                self.inline_sparse(graph)?;
                self.inline_nodes(&mut graph.node)?;
            }
        }
        Ok(())
    }
}

fn move_in(tensor: &mut TensorProto, data: Bytes) {
    tensor.raw_data = Some(data);
    tensor.external_data.clear();
    tensor.data_location = None;
}

fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location() == DataLocation::External
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    let entry = tensor.external_data.iter().find(|it| it.key() == key)?;
    entry.value.as_deref()
}

fn location(tensor: &TensorProto) -> &str {
    entry(tensor, "location").unwrap_or_default()
}
