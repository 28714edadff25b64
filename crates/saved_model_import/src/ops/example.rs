//! Parsing tf.Example: the nodes stay in the model in TensorFlow's form, as converters leave them, and the server
//! parses examples itself (`OnnxModel::cut_parse_examples`).

use std::rc::Rc;

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, many};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

pub(super) const TABLE: Table = &[
    ("ParseExample", Pure(parse)),
    ("ParseExampleV2", Pure(parse_v2)),
];

type Result<T> = std::result::Result<T, Refusal>;

/// The features that a node reads.
struct Features {
    sparse: Vec<DataType>,
    dense: Vec<(DataType, Shape)>,
    /// Of the values, and of the row splits.
    ragged: Vec<(DataType, DataType)>,
}

/// Keys and defaults are inputs of their own.
fn parse(b: &mut Builder, op: &Op<'_>) -> Translated {
    let features = Features::of(op)?;
    let counts = (features.sparse.len(), features.dense.len());
    constant_inputs(op, 2..op.len())?;
    let expected = counts.0 + 2 * counts.1 + 2;
    if op.len() != expected || !features.ragged.is_empty() {
        return Err(Refusal::new(
            "has another number of inputs than of features",
        ));
    }
    features.keep(b, op, &[("Nsparse", counts.0), ("Ndense", counts.1)])
}

/// Each kind of keys is a vector.
fn parse_v2(b: &mut Builder, op: &Op<'_>) -> Translated {
    let features = Features::of(op)?;
    constant_inputs(op, 2..op.len())?;
    let keys = op.inputs(2..5)?;
    let counts = keys.iter().map(|it| it.as_constant().map(|it| it.len()));
    let expected = [
        &features.sparse.len(),
        &features.dense.len(),
        &features.ragged.len(),
    ];
    if !counts.eq(expected.map(|&it| Some(it))) || op.len() != 5 + features.dense.len() {
        return Err(Refusal::new(
            "has another number of inputs than of features",
        ));
    }
    features.keep(b, op, &[("num_sparse", features.sparse.len())])
}

/// Keys and defaults have to be known when the model is loaded.
fn constant_inputs(op: &Op<'_>, range: std::ops::Range<usize>) -> Result<()> {
    let inputs = op.inputs(range)?;
    match inputs.iter().all(|it| it.as_constant().is_some()) {
        true => Ok(()),
        false => Err(Refusal::new("has keys or defaults that are not constants")),
    }
}

impl Features {
    fn of(op: &Op<'_>) -> Result<Self> {
        let dtypes = |name: &str| {
            let dtypes = op.attr_dtypes(name).into_iter();
            let dtypes = dtypes.map(|it| {
                it.filter(|it| onnx::elem_type(*it).is_some())
                    .ok_or_else(|| Refusal::new("has a feature of a dtype that is not known"))
            });
            dtypes.collect::<Result<Vec<_>>>()
        };
        let dense = dtypes("Tdense")?;
        let shapes = op.attr_shapes("dense_shapes");
        let (ragged, splits) = (dtypes("ragged_value_types")?, dtypes("ragged_split_types")?);
        if shapes.len() != dense.len() || splits.len() != ragged.len() {
            return Err(Refusal::new(
                "has another number of dtypes than of features",
            ));
        }
        Ok(Self {
            sparse: dtypes("sparse_types")?,
            dense: dense.into_iter().zip(shapes).collect(),
            ragged: ragged.into_iter().zip(splits).collect(),
        })
    }

    /// Adds the node as it is. The server feeds it with an input of the signature: one that is given another shape
    /// on the way is fed as it is.
    fn keep(&self, b: &mut Builder, op: &Op<'_>, counts: &[(&str, usize)]) -> Translated {
        if b.is_nested() {
            return Err(Refusal::new("is within control flow"));
        }
        let serialized = op.input(0)?;
        let unknown = || Refusal::new("parses examples that are not an input of the signature");
        let source = b.input_behind(serialized).ok_or_else(unknown)?;
        match (source.rank(), serialized.rank()) {
            (one, two) if one == two => many(self.add(b, op, counts, &source)?),
            (Some(0), Some(1)) if op.node.op == "ParseExampleV2" => {
                let outputs = self.add(b, op, counts, &source)?;
                many(self.batch_of_one(b, outputs)?)
            }
            _ => Err(unknown()),
        }
    }

    fn add(
        &self,
        b: &mut Builder,
        op: &Op<'_>,
        counts: &[(&str, usize)],
        source: &Tensor,
    ) -> Result<Vec<Tensor>> {
        let mut inputs = op.inputs(0..op.len())?;
        inputs[0] = source;
        let numbers = |dtypes: &mut dyn Iterator<Item = DataType>| -> Vec<i64> {
            dtypes.filter_map(onnx::elem_type).map(i64::from).collect()
        };
        let mut node = b
            .op(&op.node.op, &inputs)
            .named(&op.node.name)
            .ints("sparse_types", &numbers(&mut self.sparse.iter().copied()))
            .ints(
                "ragged_value_types",
                &numbers(&mut self.ragged.iter().map(|it| it.0)),
            )
            .ints(
                "ragged_split_types",
                &numbers(&mut self.ragged.iter().map(|it| it.1)),
            );
        for (name, count) in counts {
            node = node.int(name, i64::try_from(*count).unwrap_or(i64::MAX));
        }
        let outputs = node.many(self.outputs(source.rank()))?;
        // The shapes of dense features stand nowhere else. They are declared with a batch.
        let dense = outputs.iter().skip(3 * self.sparse.len());
        for (tensor, (dtype, shape)) in dense.zip(&self.dense) {
            let dims = shape.0.iter().flatten().copied();
            let shape = Shape::dims(std::iter::once(None).chain(dims));
            let name = tensor
                .name()
                .map_err(|_| Refusal::new("has a constant output"))?;
            b.declare(&Tensor::named(Rc::clone(name), *dtype, shape))?;
        }
        Ok(outputs)
    }

    /// The outputs for a vector of one example, from those for a scalar.
    fn batch_of_one(&self, b: &mut Builder, outputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let (sparse, ragged) = (self.sparse.len(), self.ragged.len());
        let dense = 3 * sparse..3 * sparse + self.dense.len();
        let values = dense.end..dense.end + ragged;
        let (zero, zeros, ones) = (b.i64(0), b.i64s(&[0]), b.i64s(&[1]));
        let mut all = Vec::with_capacity(outputs.len());
        for (index, output) in outputs.iter().enumerate() {
            all.push(if index < sparse {
                let first = b.binary("Mul", output, &zero)?;
                b.concat(&[&first, output], 1)?
            } else if (2 * sparse..3 * sparse).contains(&index) {
                b.concat(&[&ones, output], 0)?
            } else if dense.contains(&index) {
                b.unsqueeze(output, &[0])?
            } else if index < values.end {
                output.clone()
            } else {
                let values = outputs.get(index - ragged);
                let values = values.ok_or_else(|| Refusal::new("lacks an output"))?;
                let count = b.shape_of(values)?;
                let splits = b.concat(&[&zeros, &count], 0)?;
                b.cast(&splits, output.dtype)?
            });
        }
        Ok(all)
    }

    /// The dtypes and shapes of all outputs, for examples of this rank.
    fn outputs(&self, rank: Option<usize>) -> Vec<(DataType, Shape)> {
        let width = rank.and_then(|it| i64::try_from(it).ok()?.checked_add(1));
        let mut outputs = Vec::new();
        for _ in &self.sparse {
            outputs.push((DataType::Int64, Shape::dims([None, width])));
        }
        for dtype in &self.sparse {
            outputs.push((*dtype, Shape::of_rank(1)));
        }
        for _ in &self.sparse {
            outputs.push((DataType::Int64, Shape::dims([width])));
        }
        for (dtype, shape) in &self.dense {
            let shape = rank.zip(shape.0.as_ref()).map(|(rank, dims)| {
                let mut all = vec![None; rank];
                all.extend(dims);
                all
            });
            outputs.push((*dtype, Shape(shape)));
        }
        for (dtype, _) in &self.ragged {
            outputs.push((*dtype, Shape::of_rank(1)));
        }
        for (_, splits) in &self.ragged {
            outputs.push((*splits, Shape::of_rank(1)));
        }
        outputs
    }
}
