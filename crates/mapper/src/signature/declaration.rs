//! The intended signature, before it is matched with the graph, and the entries of the maps that describe it.
//!
//! Not here: making it (`declare`), the contents of a map's entry (`overlay`), the aliases that it replaces (`renaming`).

use std::collections::{BTreeMap, BTreeSet};

use super::SignatureDef;
use super::alias_change::{AliasChange, EarlierAliases, Side};
use super::matching::Wanted;
use base::error::{Result, ServingError};
use base::tensor::{DataType, Tensor};
use codec::tensor_proto::message::{from_message, static_shape};
use proto::onnx_model_server as map;
use proto::tensorflow::{TensorInfo, TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
use runtime::ValueInfo;

/// A graph's inputs and outputs, as its file declares them.
pub struct Interface {
    /// The inputs of every run.
    pub inputs: Vec<ValueInfo>,
    /// The outputs that a run can return.
    pub outputs: Vec<ValueInfo>,
    /// The inputs that the graph has a default for.
    pub optional: BTreeSet<String>,
    /// For inputs and outputs that cannot be served: a description of their type, by name.
    pub unserved: BTreeMap<String, String>,
}

/// Everything known about a signature apart from the graph's tensors.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// Its key in the model.
    pub name: String,
    /// Whether the definition is that of a `saved_model.pb`.
    pub is_original: bool,
    /// The metadata that clients see.
    pub definition: SignatureDef,
    /// The same without any map.
    pub before: SignatureDef,
    /// The entries of each map, the outermost map last.
    pub layers: Vec<Layer>,
    /// The combined entries of all maps for inputs, by alias.
    pub inputs: BTreeMap<String, TensorMapping>,
    /// The combined entries of all maps for outputs, by alias.
    pub outputs: BTreeMap<String, TensorMapping>,
    /// The changes that the maps made to aliases.
    pub changes: Vec<AliasChange>,
    /// The additional aliases of inputs, each with the newest one.
    pub kept: Vec<(String, String)>,
    /// The aliases below each map, the innermost first.
    pub earlier: Vec<EarlierAliases>,
    /// Graph inputs that no client sends, by graph name.
    pub constants: Vec<(String, Tensor)>,
    /// The map's entry for examples.
    pub example: Option<map::ExampleInput>,
}

/// The entries of one map.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// For inputs, by alias.
    pub inputs: BTreeMap<String, TensorMapping>,
    /// For outputs, by alias.
    pub outputs: BTreeMap<String, TensorMapping>,
    /// The graph inputs that the map feeds with constants and features.
    pub fed: Vec<String>,
}

impl Layer {
    /// The entries for one side.
    pub fn ports(&self, side: Side) -> &BTreeMap<String, TensorMapping> {
        match side {
            Side::Input => &self.inputs,
            Side::Output => &self.outputs,
        }
    }
}

/// A map's entry for one input or output.
#[derive(Clone, Debug, Default)]
pub struct TensorMapping {
    /// The graph's name; `None`: still to be found.
    pub tensor: Option<String>,
    /// The alias whose tensor this one takes over, if the map names one.
    pub takes: Option<String>,
    /// Keep the aliases that its tensor has had so far.
    pub keep: bool,
    /// Remove the alias.
    pub drop: bool,
    /// The dtype that clients see; 0: the map does not set one.
    pub dtype: i32,
    /// The shape that clients see, if the map sets one.
    pub shape: Option<TensorShapeProto>,
    /// The default of an input.
    pub default: Option<TensorProto>,
    /// Applied on the way to the other side, before the reshape.
    pub transpose: Vec<i64>,
    /// As ONNX Reshape.
    pub reshape: Vec<i64>,
    /// For Classify.
    pub labels: Option<map::Labels>,
    /// For Classify; 0: all.
    pub top_k: usize,
    /// The map sets the input's default.
    pub has_default: bool,
    /// Dimension 0 counts the tensors of a sequence, not the rows of the request.
    pub is_stacked_first: bool,
}

impl TensorMapping {
    /// Whether dimension 0 is the same on both sides. `shape` is the shape before the transpose, as far as
    /// it is known.
    pub fn keeps_rows(&self, shape: Option<&[i64]>) -> bool {
        if self.transpose.first().is_some_and(|&axis| axis != 0) {
            return false;
        }
        match self.reshape.first() {
            None | Some(0) => true,
            Some(-1) => self.keeps_row_sizes(shape.unwrap_or_default()),
            Some(_) => false,
        }
    }

    /// Whether a reshape that leaves dimension 0 open keeps the number of elements in each row. True if
    /// that is not known.
    fn keeps_row_sizes(&self, shape: &[i64]) -> bool {
        let shape: Vec<i64> = match self.transpose.is_empty() {
            true => shape.to_vec(),
            false => {
                let size = |&axis: &i64| shape.get(usize::try_from(axis).ok()?).copied();
                self.transpose
                    .iter()
                    .map(|it| size(it).unwrap_or(-1))
                    .collect()
            }
        };
        let made = self
            .reshape
            .iter()
            .enumerate()
            .map(|(axis, &size)| match size {
                0 => shape.get(axis).copied().unwrap_or(-1),
                size => size,
            });
        let made: Vec<i64> = made.collect();
        let in_row = |sizes: &[i64]| {
            let mut sizes = sizes.iter().skip(1);
            sizes.try_fold(1_i64, |all, &size| {
                (size >= 0).then(|| all.checked_mul(size))?
            })
        };
        if shape.is_empty() {
            return true;
        }
        match (in_row(&shape), in_row(&made)) {
            (Some(before), Some(after)) => before == after,
            _ => true,
        }
    }
}

impl Declaration {
    /// The inputs that clients send, sorted by alias. If an input has several aliases, only the newest is
    /// listed.
    pub fn wanted_inputs(&self) -> Vec<Wanted> {
        let is_kept = |alias: &str| self.kept.iter().any(|(kept, _)| kept == alias);
        let mut inputs = wanted(&self.definition.inputs);
        inputs.retain(|it| !is_kept(&it.alias));
        inputs
    }

    /// The outputs that clients get, sorted by alias.
    pub fn wanted_outputs(&self) -> Vec<Wanted> {
        wanted(&self.definition.outputs)
    }

    /// The defaults of inputs (`SignatureDef.defaults`), by alias.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if a default cannot be converted to a tensor.
    pub fn defaults(&self) -> Result<BTreeMap<String, Tensor>> {
        let defaults = self.definition.defaults.iter();
        defaults
            .map(|(alias, proto)| {
                let info = self.definition.inputs.get(alias);
                let dtype = info.and_then(|info| DataType::from_number(info.dtype));
                let tensor = from_message(proto, dtype, None).map_err(|error| {
                    let text = format!("the default of input '{alias}': {error}");
                    ServingError::invalid_argument(text)
                })?;
                Ok((alias.clone(), tensor))
            })
            .collect()
    }
}

/// The aliases to match, sorted.
pub fn wanted(infos: &BTreeMap<String, TensorInfo>) -> Vec<Wanted> {
    let infos = infos.iter();
    infos
        .map(|(alias, info)| Wanted {
            alias: alias.clone(),
            info: info.clone(),
        })
        .collect()
}

/// The graph inputs that a map feeds with constants and features.
pub(super) fn fed_inputs(map: &map::Signature) -> Vec<&str> {
    let mut fed: Vec<&str> = map.constant.iter().map(|it| it.tensor.as_str()).collect();
    if let Some(example) = &map.example_input {
        fed.extend(example.feature.iter().map(|it| it.tensor.as_str()));
        for it in &example.sparse_feature {
            let tensors = [&it.indices_tensor, &it.values_tensor, &it.shape_tensor];
            fed.extend(tensors.map(String::as_str));
        }
        for it in &example.ragged_feature {
            fed.extend([it.values_tensor.as_str(), it.row_splits_tensor.as_str()]);
        }
    }
    fed
}

pub(super) fn or_alias<'a>(tensor: &'a str, alias: &'a str) -> &'a str {
    if tensor.is_empty() { alias } else { tensor }
}

impl Interface {
    /// The error for a tensor of the graph that cannot be served, with advice.
    pub(super) fn unserved(&self, what: &str, value: &ValueInfo) -> ServingError {
        let name = &value.name;
        let Some(ty) = self.unserved.get(name) else {
            return ServingError::unimplemented(format!(
                "the type of the graph's {what} '{name}' is not known: the file does not declare it, and \
                 it does not follow from the graph. Let the file declare it, or leave the {what} out in a \
                 signature_map.pbtxt"
            ));
        };
        let advice = match what {
            "output" => {
                "clients cannot get that. A signature_map.pbtxt with the other outputs leaves it out"
            }
            _ => "clients cannot send that. Let the graph take another type and convert it",
        };
        ServingError::unimplemented(format!("the graph's {what} '{name}' is {ty}: {advice}"))
    }
}

/// A shape as clients see it: -1 for any size, `None` for any rank.
pub fn shape_proto(shape: Option<&[i64]>) -> TensorShapeProto {
    let dims = shape.unwrap_or_default().iter();
    let dims = dims.map(|&size| Dim {
        size,
        ..Dim::default()
    });
    TensorShapeProto {
        dim: dims.collect(),
        unknown_rank: shape.is_none(),
    }
}

/// The shape that a map gives the values of one example of a feature; the first size can be -1.
pub fn feature_shape(shape: &Option<TensorShapeProto>) -> Vec<i64> {
    let dims = shape.iter().flat_map(|shape| &shape.dim);
    dims.map(|dim| dim.size).collect()
}

/// A feature's default. If it does not have a dtype or shape of its own, it has those of the feature.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if it cannot be converted to a tensor.
pub fn feature_default(feature: &map::Feature) -> Result<Option<Tensor>> {
    let Some(default) = &feature.default else {
        return Ok(None);
    };
    let dtype = DataType::from_number(feature.dtype);
    let shape = feature.shape.as_ref().and_then(static_shape);
    from_message(default, dtype, shape.as_deref()).map(Some)
}
