//! The metadata of an alias, and the conversions between clients and its tensor. Both belong to the tensor:
//! if an alias takes another's place, it inherits all of them except those that its own map entry sets.
//!
//! Not here: which alias takes which place (`renaming`).

use super::alias_change::Side;
use super::declaration::{TensorMapping, shape_proto};
use super::default_value::{Axes, restated};
use super::overlay::client_shape;
use base::error::Result;
use base::tensor::DataType;
use proto::tensorflow::{TensorInfo, TensorProto, tensor_info};
use runtime::ValueInfo;

/// Everything known about an alias apart from its tensor.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// The metadata that clients see.
    pub info: TensorInfo,
    /// The combined entries of the maps.
    pub port: TensorMapping,
    /// The value used if clients do not send the input.
    pub default: Option<TensorProto>,
    /// The axes that the default was written for.
    pub(super) default_axes: Axes,
}

/// The source of an alias's description.
pub(super) enum Source {
    /// The alias already had its tensor.
    Own(Description),
    /// Another alias had the tensor before.
    Other(Description),
    /// Only the graph knows the tensor.
    Graph,
}

impl Description {
    /// Applies `port` to the description known before.
    pub(super) fn new(
        side: Side,
        port: &TensorMapping,
        source: Source,
        tensor: Option<&ValueInfo>,
        is_original: bool,
    ) -> Self {
        let is_arranged = !port.transpose.is_empty() || !port.reshape.is_empty();
        let (before, is_own) = match source {
            Source::Own(before) => (Some(before), true),
            Source::Other(before) => (Some(before), false),
            Source::Graph => (None, false),
        };
        let is_known = before.is_some();
        let mut new = before.unwrap_or_default();
        if !is_known {
            new.info = TensorInfo {
                dtype: tensor.and_then(|it| it.dtype).map_or(0, DataType::number),
                encoding: tensor.map(|it| tensor_info::Encoding::Name(it.name.clone())),
                ..TensorInfo::default()
            };
        }
        new.lay_over(port, is_arranged && !is_own);
        // A default without a dtype has the dtype of the input that it was written for.
        let said_now = port.default.is_some() && port.dtype != 0;
        let dtype = if said_now { port.dtype } else { new.info.dtype };
        let unnamed = new.default.iter_mut().filter(|it| it.dtype == 0);
        unnamed.for_each(|it| it.dtype = dtype);
        if port.dtype != 0 {
            new.info.dtype = port.dtype;
            new.port.dtype = port.dtype;
        }
        let is_seen_otherwise = is_arranged && !(is_own && is_original);
        if port.shape.is_some() {
            new.info.tensor_shape.clone_from(&port.shape);
            new.port.shape.clone_from(&port.shape);
        } else if !is_known || is_seen_otherwise {
            let shape = tensor.and_then(|it| client_shape(side, it, &new.port));
            new.info.tensor_shape = Some(shape_proto(shape.as_deref()));
        }
        new
    }

    /// Merges the fields that a map sets, apart from the dtype and the shape. If it `replaces_axes`, the
    /// transpose and reshape known before are dropped.
    fn lay_over(&mut self, port: &TensorMapping, replaces_axes: bool) {
        let known = &mut self.port;
        if replaces_axes {
            known.transpose.clear();
            known.reshape.clear();
        }
        if !port.transpose.is_empty() {
            known.transpose.clone_from(&port.transpose);
        }
        if !port.reshape.is_empty() {
            known.reshape.clone_from(&port.reshape);
        }
        if port.labels.is_some() {
            known.labels.clone_from(&port.labels);
        }
        if port.top_k != 0 {
            known.top_k = port.top_k;
        }
        known.is_stacked_first |= port.is_stacked_first;
        if port.default.is_some() {
            self.default.clone_from(&port.default);
            self.default_axes = axes(known);
            known.default.clone_from(&port.default);
            known.has_default = true;
        }
    }

    /// Whether two aliases of one input have the same description.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        let defaults = (&self.default, &other.default);
        self.is_sent_as(other)
            && (defaults.0.is_none() || defaults.1.is_none() || defaults.0 == defaults.1)
    }

    /// Whether clients send the same dtype and axes under two aliases of one input.
    pub(super) fn is_sent_as(&self, other: &Self) -> bool {
        self.info.dtype == other.info.dtype && axes(&self.port) == axes(&other.port)
    }

    /// Its default, as clients of input `alias` would send it now.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if it cannot be restated exactly.
    pub(super) fn default_now(&self, alias: &str) -> Result<Option<TensorProto>> {
        let Some(default) = &self.default else {
            return Ok(None);
        };
        let (now, said) = (axes(&self.port), &self.default_axes);
        // If no map refers to the input, the model's own default stays.
        let is_mapped = self.port.dtype != 0 || self.port.has_default || now != *said;
        match DataType::from_number(self.info.dtype).filter(|_| is_mapped) {
            Some(dtype) => restated(alias, default, dtype, said, &now).map(Some),
            None => Ok(Some(default.clone())),
        }
    }
}

fn axes(port: &TensorMapping) -> Axes {
    Axes {
        transpose: port.transpose.clone(),
        reshape: port.reshape.clone(),
    }
}
