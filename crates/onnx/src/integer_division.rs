//! Dividing integers.
//!
//! The smallest integer of a type, divided by -1, is larger by one than the type can hold. TensorFlow returns
//! the smallest integer again; ONNX Runtime's kernel uses an instruction that ends the process, so a single
//! request could end it. Here a divisor of -1 becomes 1, and the sign of the quotient is changed afterwards,
//! which wraps around as in TensorFlow.
//!
//! Narrow integers are left alone because their quotients are computed in wider ones, and so is the division
//! by 0, which the kernel refuses. If the type is not known, the nodes are ones that return the same for
//! every type.

use std::collections::HashSet;

use super::edit::Edit;
use super::known::Elem;
use super::visit::{NodeContext, Replaced};
use super::{OnnxModel, constant, is_op, node};
use crate::io_transforms::int_attribute;
use base::error::{Result, ServingError};
use base::tensor::{Element, Tensor};
use proto::onnx::{NodeProto, tensor_proto::DataType as OnnxType};

/// The first opset with `Where`.
const WHERE_SINCE: i64 = 9;

const DOUBLE: i32 = OnnxType::Double as i32;

impl OnnxModel {
    /// Makes divisions of integers safe; see the module. Returns whether there were any to make safe.
    ///
    /// # Errors
    ///
    /// `UNIMPLEMENTED` for a division of unknown type in a model that is too old for nodes that take every
    /// type.
    pub(super) fn guard_integer_division(&mut self) -> Result<bool> {
        self.specialise_divisions()?;
        let origin = self.origin.clone();
        let uses_types = self.edits.wants(Edit::TypedDivisions);
        let guards_untyped = self.edits.wants(Edit::UntypedDivisions);
        let (mut is_typed, mut is_untyped) = (false, false);
        self.replace_everywhere(&HashSet::new(), &mut |node, context| {
            let Some(mut elem) = elem_of(node, context) else {
                return Ok(None);
            };
            if elem == Elem::Unknown && !guards_untyped {
                return Ok(None);
            }
            match elem {
                Elem::Unknown => is_untyped = true,
                _ => is_typed = true,
            }
            if !uses_types {
                elem = Elem::Unknown;
            }
            guarded(node, elem, context, &origin)
        })?;
        self.edits
            .note(Edit::TypedDivisions, is_typed && uses_types);
        self.edits.note(Edit::UntypedDivisions, is_untyped);
        Ok(is_typed || is_untyped)
    }
}

/// The type of the operands of a node, if they can be integers and the divisor -1. Backends have an operator
/// of this name, so they do not call a function of this name.
pub(super) fn elem_of(division: &NodeProto, context: &NodeContext<'_>) -> Option<Elem> {
    let ([_, _], [_]) = (division.input.as_slice(), division.output.as_slice()) else {
        return None;
    };
    let [dividend, divisor] = [0, 1].map(|index| context.known.input(division, index));
    if !is_op(division, "Div") || divisor.is_never_minus_one {
        return None;
    }
    // Both sides of a division are of one type.
    let elem = match dividend.elem {
        Elem::Unknown => divisor.elem,
        known => known,
    };
    elem.may_be_wide_integer().then_some(elem)
}

/// The nodes that replace a division of integers.
fn guarded(
    division: &NodeProto,
    elem: Elem,
    context: &mut NodeContext<'_>,
    origin: &str,
) -> Replaced {
    let mut guard = Guard {
        division,
        context,
        nodes: Vec::new(),
    };
    let is_guarded = match elem {
        Elem::Is(elem) => guard.integers(elem),
        _ if guard.context.opset < WHERE_SINCE => {
            return Err(ServingError::unimplemented(format!(
                "{origin}: it is not known whether {} divides integers. Convert the model to \
                 opset {WHERE_SINCE} or later",
                division.output[0]
            )));
        }
        _ => guard.anything(),
    };
    Ok(is_guarded.map(|()| guard.nodes))
}

struct Guard<'a, 'b> {
    division: &'a NodeProto,
    context: &'a mut NodeContext<'b>,
    nodes: Vec<NodeProto>,
}

impl Guard<'_, '_> {
    fn add(&mut self, op_type: &str, inputs: &[&str], part: &str) -> String {
        let output = self.name(part);
        self.nodes.push(node(op_type, inputs, &output));
        output
    }

    fn cast(&mut self, input: &str, to: i32, part: &str) -> String {
        let output = self.name(part);
        let mut cast = node("Cast", &[input], &output);
        cast.attribute.push(int_attribute("to", i64::from(to)));
        self.nodes.push(cast);
        output
    }

    /// A whole number of an integer type. In old opsets, constants in functions are floats.
    fn whole(&mut self, value: f32, elem: i32, part: &str) -> Option<String> {
        let float = self.scalar(value, &format!("{part}_as_float"))?;
        Some(self.cast(&float, elem, part))
    }

    fn scalar<T: Element>(&mut self, value: T, part: &str) -> Option<String> {
        let name = self.name(part);
        let tensor = Tensor::from_vec(&[], vec![value])?;
        self.nodes.push(constant::constant_node(&name, &tensor)?);
        Some(name)
    }

    fn name(&mut self, part: &str) -> String {
        let quotient = &self.division.output[0];
        self.context
            .names
            .take(&format!("{quotient}/divide/{part}"))
    }

    fn finish(&mut self, op_type: &str, inputs: &[&str]) {
        self.nodes
            .push(node(op_type, inputs, &self.division.output[0]));
    }

    /// A division of int32 or int64, `elem`.
    fn integers(&mut self, elem: i32) -> Option<()> {
        let division = self.division;
        let [dividend, divisor] = [0, 1].map(|index| division.input[index].as_str());
        let plus = self.whole(1.0, elem, "one")?;
        let minus = self.whole(-1.0, elem, "minus_one")?;
        let is_minus = self.add("Equal", &[divisor, &minus], "is_minus_one");
        let (safe, sign) = if self.context.opset < WHERE_SINCE {
            let counted = self.cast(&is_minus, elem, "count");
            let twice = self.add("Add", &[&counted, &counted], "twice");
            let safe = self.add("Add", &[divisor, &twice], "safe_divisor");
            (safe, self.add("Sub", &[&plus, &twice], "sign"))
        } else {
            let safe = self.add("Where", &[&is_minus, &plus, divisor], "safe_divisor");
            (safe, self.add("Where", &[&is_minus, &minus, &plus], "sign"))
        };
        let unsigned = self.add("Div", &[dividend, &safe], "unsigned");
        self.finish("Mul", &[&unsigned, &sign]);
        Some(())
    }

    /// A division of operands that might be integers or not. A divisor that equals -1 as a double is -1 in
    /// every type. In every type that has -1, its square is 1, and a product with it changes the sign.
    fn anything(&mut self) -> Option<()> {
        let division = self.division;
        let [dividend, divisor] = [0, 1].map(|index| division.input[index].as_str());
        let minus = self.scalar(-1.0_f64, "minus_one")?;
        let double = self.cast(divisor, DOUBLE, "double");
        let less = self.add("Less", &[&double, &minus], "is_less");
        let greater = self.add("Greater", &[&double, &minus], "is_greater");
        let differs = self.add("Or", &[&less, &greater], "differs");
        let square = self.add("Mul", &[divisor, divisor], "square");
        let safe = self.add("Where", &[&differs, divisor, &square], "safe_divisor");
        let unsigned = self.add("Div", &[dividend, &safe], "unsigned");
        let signed = self.add("Mul", &[&unsigned, divisor], "signed");
        self.finish("Where", &[&differs, &unsigned, &signed]);
        Some(())
    }
}
