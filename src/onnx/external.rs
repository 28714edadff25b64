//! Weights that lie in files beside the model.
//!
//! Those of the graph itself stay out of the protobuf, which cannot take more than 2 GiB, and are
//! handed to the backend file by file. Those of nested graphs, functions and attributes, which are
//! small, are moved into it.
//!
//! Not here: which files may be read (`lifecycle::loader`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{OnnxModel, walk};
use crate::error::{Result, ServingError};
use crate::proto::onnx::{GraphProto, NodeProto, TensorProto, tensor_proto::DataLocation};

/// Contents of the files by the name that the model gives them.
struct Files<'a> {
    origin: &'a str,
    read: &'a mut dyn FnMut(&str) -> Result<Arc<[u8]>>,
    by_location: BTreeMap<String, Arc<[u8]>>,
}

impl OnnxModel {
    /// Reads the external data that the model names, each file once, through `read`, which decides
    /// whether a name is allowed.
    ///
    /// # Errors
    ///
    /// Those of `read`; `INVALID_ARGUMENT` where a tensor's place is not inside its file.
    pub fn read_external_data(
        &mut self,
        read: &mut dyn FnMut(&str) -> Result<Arc<[u8]>>,
    ) -> Result<()> {
        let mut files = Files {
            origin: &self.origin,
            read,
            by_location: BTreeMap::new(),
        };
        let graph = self.proto.graph.as_mut().expect("checked by parse");
        let mut kept = Vec::new();
        for tensor in &graph.initializer {
            if is_external(tensor) {
                files.slice(tensor)?;
                kept.push(location(tensor).to_owned());
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

        let by_location = files.by_location;
        self.external_data = by_location
            .into_iter()
            .filter(|(location, _)| kept.contains(location))
            .collect();
        Ok(())
    }
}

impl Files<'_> {
    /// The bytes of an external tensor, as offset and length in its file.
    fn slice(&mut self, tensor: &TensorProto) -> Result<(Arc<[u8]>, usize, usize)> {
        let location = location(tensor);
        let contents = match self.by_location.get(location) {
            Some(contents) => Arc::clone(contents),
            None => {
                let contents = (self.read)(location)?;
                self.by_location
                    .insert(location.to_owned(), Arc::clone(&contents));
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
        Ok((contents, offset, length))
    }

    fn number(&self, tensor: &TensorProto, key: &str) -> Result<Option<usize>> {
        let Some(text) = entry(tensor, key) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| {
            ServingError::invalid_argument(format!(
                "{}: the {key} of the external data of '{}' is no number: '{text}'",
                self.origin,
                tensor.name()
            ))
        })
    }

    fn inline(&mut self, tensor: &mut TensorProto) -> Result<()> {
        if !is_external(tensor) {
            return Ok(());
        }
        let (contents, offset, length) = self.slice(tensor)?;
        let bytes = Bytes::copy_from_slice(&contents[offset..offset + length]);
        tensor.raw_data = Some(bytes);
        tensor.external_data.clear();
        tensor.data_location = None;
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
            for graph in walk::subgraphs_mut(node) {
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
