//! From an ONNX model to a graph of tract's, and from that to plans.
//!
//! A model is loaded as far as its declarations allow. Every operator is built and checked against the
//! others with the sizes that the file declares. Unknown sizes are symbols, or 1 if an operator does
//! not support symbols. A model that cannot run at all fails there, not at the first request.
//!
//! Not here: keeping plans (`plans`), running them (`graph`).

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message;
use tract_onnx::model::ParseResult;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{GraphProto, ModelProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::{
    DatumType, InferenceFact, InferenceModel, InferenceModelExt, OutletId, RunOptions, SymbolScope,
    TVec, TractResult, TypedModel, TypedSimplePlan,
};
use tract_onnx::tract_hir::infer::{Factoid, GenericFactoid, ShapeFactoid};
use tract_onnx::tract_hir::internal::{ToDim, bail};

use super::fit::check_sizes;
use super::plans::PlanKey;
use super::value::dtypes;
use super::{adapt, support};
use crate::{GraphSource, ValueInfo, Weight};
use base::error::{Result, ServingError};

/// Ranks that are tried for inputs of undeclared rank, the likeliest first.
const TRIED_RANKS: [usize; 6] = [2, 1, 4, 3, 0, 5];

/// A model that plans are made from.
pub(super) struct Planner {
    /// As it was parsed: nothing inferred, inputs as the file declares them.
    model: InferenceModel,
    pub(super) inputs: Vec<ValueInfo>,
    pub(super) outputs: Vec<ValueInfo>,
    /// The types of the inputs.
    datum_types: Vec<DatumType>,
    /// The outlets of the outputs.
    outlets: Vec<OutletId>,
    /// The shapes of the inputs, as far as the file declares them.
    declared_shapes: Vec<ShapeFactoid>,
    /// Includes the threads that a plan uses.
    options: RunOptions,
}

impl Planner {
    /// Reads the model.
    ///
    /// # Errors
    ///
    /// Those of [`Backend::load`](crate::Backend::load).
    pub(super) fn try_new(source: GraphSource, options: RunOptions) -> Result<Self> {
        let origin = source.origin.clone();
        let planner = Self::read(source, options).and_then(|planner| {
            let checked = planner.check().map_err(invalid);
            checked.map(|()| planner)
        });
        planner.map_err(|error| {
            let text = format!("cannot load {origin}: {error}");
            error.with_text(text)
        })
    }

    fn read(source: GraphSource, options: RunOptions) -> Result<Self> {
        let mut proto = ModelProto::decode(source.model)
            .map_err(|error| ServingError::invalid_argument(error.to_string()).caused_by(error))?;
        let graph = proto.graph.as_mut();
        let graph = graph.ok_or_else(|| ServingError::invalid_argument("it has no graph"))?;
        put_weights_back(graph, source.weights);
        graph.input.iter_mut().for_each(forget_names_of_sizes);
        adapt::adapt(graph);

        // Types of intermediate values are inferred, because converters declare wrong ones.
        let framework = tract_onnx::onnx().with_ignore_value_info(true);
        support::check(&proto, &framework.op_register)?;
        let ParseResult {
            model,
            unresolved_inputs,
            outlets_by_name,
        } = framework.parse(&proto, None).map_err(invalid)?;
        if let Some(name) = unresolved_inputs.first() {
            let text = format!("nothing in the graph makes '{name}'");
            return Err(ServingError::invalid_argument(text));
        }

        let graph = proto.graph.as_ref();
        let (inputs, outputs) = graph.map_or_else(Default::default, interface);
        let outlet = |output: &ValueInfo| {
            let text = format!("nothing in the graph makes the output '{}'", output.name);
            let outlet = outlets_by_name.get(&output.name).copied();
            outlet.ok_or_else(|| ServingError::invalid_argument(text))
        };
        let declared = inputs.iter().map(|(input, _)| {
            let shape = source.declared_shapes.get(&input.name);
            shape_factoid(shape.or(input.shape.as_ref()))
        });
        Ok(Self {
            declared_shapes: declared.collect(),
            datum_types: inputs.iter().map(|(_, it)| *it).collect(),
            inputs: inputs.into_iter().map(|(info, _)| info).collect(),
            outlets: outputs.iter().map(outlet).collect::<Result<_>>()?,
            outputs,
            model,
            options,
        })
    }

    /// A plan for inputs of exactly these shapes.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if operators refuse the shapes.
    pub(super) fn plan(&self, key: &PlanKey) -> Result<Arc<TypedSimplePlan>> {
        let outlets: Vec<OutletId> = key.outputs.iter().map(|&it| self.outlets[it]).collect();
        let shapes = key.shapes.iter().map(|shape| shape.as_slice().into());
        let plan = self.typed(shapes, &outlets).and_then(|typed| {
            let plan = typed.into_optimized()?;
            plan.into_runnable_with_options(&self.options)
        });
        plan.map_err(invalid)
    }

    /// Checks that some inputs fit the whole graph.
    fn check(&self) -> TractResult<()> {
        let shapes = &self.declared_shapes;
        if shapes.iter().any(ShapeFactoid::is_open) {
            return self.check_ranks(shapes);
        }
        let Err(error) = self.check_symbols(shapes) else {
            return Ok(());
        };
        let ones = shapes
            .iter()
            .map(|shape| known(shape, shape.dims().count()));
        self.typed(ones, &self.outlets).map(|_| ()).or(Err(error))
    }

    /// Checks that inputs of at least one of the tried ranks fit the whole graph.
    fn check_ranks(&self, shapes: &[ShapeFactoid]) -> TractResult<()> {
        let mut first = None;
        for rank in TRIED_RANKS {
            let shapes = shapes.iter().map(|shape| match shape.is_open() {
                true => known(shape, rank),
                false => known(shape, shape.dims().count()),
            });
            match self.typed(shapes, &self.outlets) {
                Ok(_) => return Ok(()),
                Err(error) => first.get_or_insert(error),
            };
        }
        first.map_or(Ok(()), Err)
    }

    /// Checks with a symbol for each size that neither the file nor an operator determines.
    fn check_symbols(&self, shapes: &[ShapeFactoid]) -> TractResult<()> {
        let mut model = self.copy();
        model.select_output_outlets(&self.outlets)?;
        model.analyse(false)?;
        for (index, declared) in shapes.iter().enumerate() {
            let inferred = model.input_fact(index)?.shape.clone();
            let dims = inferred.unify(declared)?;
            let dims = dims.dims().map(|dim| match dim {
                GenericFactoid::Any => model.symbols.new_with_prefix("n").to_dim(),
                GenericFactoid::Only(dim) => dim.clone(),
            });
            let dims: ShapeFactoid = dims.collect();
            let fact = InferenceFact::dt(self.datum_types[index]).with_shape(dims);
            model.set_input_fact(index, fact)?;
        }
        check_sizes(&model.into_typed()?)
    }

    /// A copy of the model to change. Symbols that are added to the copy are its own, so that they do
    /// not accumulate with every plan, unless the model already has some.
    fn copy(&self) -> InferenceModel {
        let mut model = self.model.clone();
        if model.symbols.all_symbols().is_empty() {
            model.symbols = SymbolScope::default();
        }
        model
    }

    /// The graph with everything inferred from inputs of these shapes, of which every size is known.
    fn typed(
        &self,
        shapes: impl Iterator<Item = ShapeFactoid>,
        outlets: &[OutletId],
    ) -> TractResult<TypedModel> {
        let mut model = self.copy();
        for (index, (shape, datum_type)) in shapes.zip(&self.datum_types).enumerate() {
            model.set_input_fact(index, InferenceFact::dt(*datum_type).with_shape(shape))?;
        }
        model.select_output_outlets(outlets)?;
        let typed = model.into_typed()?;
        if typed.inputs.len() != self.inputs.len() {
            bail!("an input of the graph got lost");
        }
        check_sizes(&typed)?;
        Ok(typed)
    }
}

/// The known part of a declared shape.
fn shape_factoid(declared: Option<&Vec<i64>>) -> ShapeFactoid {
    let Some(sizes) = declared else {
        return ShapeFactoid::open(TVec::new());
    };
    let dims = sizes.iter().map(|&size| match size >= 0 {
        true => GenericFactoid::Only(size.to_dim()),
        false => GenericFactoid::Any,
    });
    ShapeFactoid::closed(dims.collect())
}

/// `shape` with this rank, and 1 for sizes that are not known.
fn known(shape: &ShapeFactoid, rank: usize) -> ShapeFactoid {
    let dims = shape.dims().map(|dim| dim.concretize());
    let dims = dims.chain(std::iter::repeat(None)).take(rank);
    dims.map(|dim| dim.unwrap_or_else(|| 1.to_dim())).collect()
}

/// tract's error chain, from the operator that refuses down to the reason.
pub(super) fn invalid(error: tract_onnx::prelude::TractError) -> ServingError {
    /// Some of tract's messages print whole nodes.
    const MAX_CHARS: usize = 600;
    let text = format!("{error:#}");
    ServingError::Kernel {
        reason: text.chars().take(MAX_CHARS).collect(),
    }
}

/// Gives initializers their data.
fn put_weights_back(graph: &mut GraphProto, weights: Vec<Weight>) {
    let mut by_name: HashMap<String, Weight> = HashMap::new();
    by_name.extend(weights.into_iter().map(|it| (it.name.clone(), it)));
    for tensor in &mut graph.initializer {
        if let Some(weight) = by_name.remove(&tensor.name) {
            tensor.raw_data = weight.data.into();
            tensor.data_location = None;
            tensor.external_data.clear();
        }
    }
}

/// Sizes of one name can differ: converters write the same name for all.
fn forget_names_of_sizes(input: &mut ValueInfoProto) {
    let ty = input.r#type.as_mut().and_then(|ty| ty.value.as_mut());
    let Some(type_proto::Value::TensorType(tensor)) = ty else {
        return;
    };
    let dims = tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim);
    for dim in dims {
        if let Some(dimension::Value::DimParam(_)) = dim.value {
            dim.value = None;
        }
    }
}

/// The inputs that have no value in the file, and the outputs, each once.
fn interface(graph: &GraphProto) -> (Vec<(ValueInfo, DatumType)>, Vec<ValueInfo>) {
    let has_value = |name: &str| graph.initializer.iter().any(|it| it.name == name);
    let inputs = graph.input.iter().filter(|it| !has_value(&it.name));
    let inputs = inputs.map(|input| {
        let (info, datum_type) = value_info(input);
        // An input that is not a tensor was refused when the graph was parsed.
        (info, datum_type.unwrap_or(DatumType::F32))
    });
    let mut outputs: Vec<ValueInfo> = Vec::new();
    for output in &graph.output {
        if outputs.iter().all(|known| known.name != output.name) {
            outputs.push(value_info(output).0);
        }
    }
    (inputs.collect(), outputs)
}

fn value_info(value: &ValueInfoProto) -> (ValueInfo, Option<DatumType>) {
    let ty = value.r#type.as_ref().and_then(|ty| ty.value.as_ref());
    let tensor = ty.map(|type_proto::Value::TensorType(tensor)| tensor);
    let dtypes = tensor.and_then(|tensor| dtypes(tensor.elem_type).ok());
    let shape = tensor
        .and_then(|tensor| tensor.shape.as_ref())
        .map(|shape| {
            let dims = shape.dim.iter().map(|dim| match dim.value {
                Some(dimension::Value::DimValue(size)) if size >= 0 => size,
                _ => -1,
            });
            dims.collect()
        });
    let info = ValueInfo {
        name: value.name.clone(),
        dtype: dtypes.map(|(dtype, _)| dtype),
        shape,
    };
    (info, dtypes.map(|(_, datum_type)| datum_type))
}
