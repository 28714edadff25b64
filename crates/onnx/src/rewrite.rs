//! Makes the optional edits of a model, and replaces TensorFlow operators that converters leave in a file by
//! ONNX's own.
//!
//! Not here: strings (`strings`), transposes (`layout`), divisions (`integer_division`), tf.Example
//! (`parse_example`), edits for speed alone (`reshape`, `batch_norm`).

use std::collections::{BTreeSet, HashSet};

use super::constant::constant_node;
use super::edit::Edit;
use super::io_transforms::int_attribute;
use super::known::Elem;
use super::visit::{NodeContext, Replaced};
use super::{OnnxModel, is_op, node};
use base::error::Result;
use base::tensor::Tensor;
use proto::onnx::{NodeProto, tensor_proto::DataType as OnnxType};

/// The first opset with `CastLike`.
const CAST_LIKE_SINCE: i64 = 15;
const FLOAT: i32 = OnnxType::Float as i32;

impl OnnxModel {
    /// Rewrites operators that no runtime has and that ONNX can express (`Erfc`), conversions that are wrong
    /// (comparisons of strings, transposes that became reshapes), divisions that would end the process, and
    /// nodes that backends would compute more slowly than necessary. The edits in `without` are left out,
    /// here and later.
    ///
    /// # Errors
    ///
    /// `UNIMPLEMENTED` for a division that cannot be made safe.
    pub fn rewrite_operators(&mut self, without: &BTreeSet<Edit>) -> Result<()> {
        self.edits.left_out.clone_from(without);
        for edit in [
            Edit::Erfc,
            Edit::StringComparisons,
            Edit::Transposes,
            Edit::Divisions,
            Edit::ConstantShapes,
            Edit::BatchNorms,
        ] {
            if !self.edits.wants(edit) {
                continue;
            }
            let is_changed = match edit {
                Edit::Erfc => self.rewrite_erfc()?,
                Edit::StringComparisons => self.rewrite_string_equal()?,
                Edit::Transposes => self.restore_transposes(),
                Edit::Divisions => self.guard_integer_division()?,
                Edit::ConstantShapes => self.settle_shapes(),
                Edit::BatchNorms => self.join_batch_norms(),
                Edit::TypedDivisions | Edit::UntypedDivisions | Edit::UnneededNodes => false,
            };
            self.edits.note(edit, is_changed);
        }
        Ok(())
    }

    /// The edits that [`rewrite_operators`](Self::rewrite_operators) made.
    pub fn edits(&self) -> &BTreeSet<Edit> {
        &self.edits.made
    }

    fn rewrite_erfc(&mut self) -> Result<bool> {
        if !self.has_operator(&|op_type| op_type == "Erfc") {
            return Ok(false);
        }
        let mut is_changed = false;
        self.replace_everywhere(&HashSet::new(), &mut |node, context| {
            if !is_op(node, "Erfc") || context.is_call {
                return Ok(None);
            }
            let replaced = erfc(node, context)?;
            is_changed |= replaced.is_some();
            Ok(replaced)
        })?;
        Ok(is_changed)
    }
}

/// erfc(x) = 1 - erf(x), computed in float, the only type for which `Erf` has a kernel.
fn erfc(original: &NodeProto, context: &mut NodeContext<'_>) -> Replaced {
    let ([x], [y]) = (original.input.as_slice(), original.output.as_slice()) else {
        return Ok(None);
    };
    let Some(one) = Tensor::from_vec(&[], vec![1.0_f32]) else {
        return Ok(None);
    };
    let elem = context.known.facts(x).elem;
    let mut name = |part: &str| context.names.take(&format!("{y}/erfc/{part}"));
    let (float, erf, one_name, result) = (name("float"), name("erf"), name("one"), name("result"));
    let mut nodes = vec![
        cast(x, FLOAT, &float),
        node("Erf", &[&float], &erf),
        node("Sub", &[&one_name, &erf], &result),
    ];
    nodes.splice(0..0, constant_node(&one_name, &one));
    nodes.push(match elem {
        Elem::Is(elem) if elem != FLOAT => cast(&result, elem, y),
        Elem::Unknown if context.opset >= CAST_LIKE_SINCE => node("CastLike", &[&result, x], y),
        _ => node("Identity", &[&result], y),
    });
    Ok(Some(nodes))
}

fn cast(input: &str, to: i32, output: &str) -> NodeProto {
    let mut cast = node("Cast", &[input], output);
    cast.attribute.push(int_attribute("to", i64::from(to)));
    cast
}
