//! The constants of a graph, each decoded once: a function can be called often, and signatures share weights that
//! are frozen into the graph.
//!
//! Not here: constants that a translation makes (`builder`).

use std::cell::RefCell;
use std::collections::HashMap;

use base::tensor::{DataType, Tensor as Elements};
use codec::tensor_proto::ExpansionBudget;
use codec::tensor_proto::message::from_message_within;
use proto::tensorflow::{NodeDef, attr_value};

use crate::graph::attribute;
use crate::op::shape_of;
use crate::refusal::Refusal;

/// How much memory the constants can take whose single value is repeated: a few bytes in the file.
const MAX_EXPANDED_BYTES: usize = 1 << 28;

/// The constants that have been decoded.
pub(crate) struct Constants {
    /// By the address of the node, which the graph keeps.
    known: RefCell<HashMap<usize, Elements>>,
    budget: RefCell<ExpansionBudget>,
}

impl Default for Constants {
    fn default() -> Self {
        Self::within(MAX_EXPANDED_BYTES)
    }
}

impl Constants {
    fn within(bytes: usize) -> Self {
        Self {
            known: RefCell::default(),
            budget: RefCell::new(ExpansionBudget::new(bytes)),
        }
    }

    /// The value of a node of the operator `Const`.
    pub(crate) fn get(&self, node: &NodeDef) -> Result<Elements, Refusal> {
        let place = std::ptr::from_ref(node).addr();
        if let Some(known) = self.known.borrow().get(&place) {
            return Ok(known.clone());
        }
        let elements = self.decode(node)?;
        self.known.borrow_mut().insert(place, elements.clone());
        Ok(elements)
    }

    fn decode(&self, node: &NodeDef) -> Result<Elements, Refusal> {
        let Some(attr_value::Value::Tensor(tensor)) = attribute(node, "value") else {
            return Err(Refusal::new("has no tensor 'value'"));
        };
        let dtype = DataType::from_number(tensor.dtype);
        let shape = tensor.tensor_shape.as_ref();
        let shape = shape.and_then(|it| shape_of(it).sizes());
        // The contents are not copied unless their alignment is wrong.
        if let (Some(dtype), Some(shape)) = (dtype, shape)
            && let Some(whole) = Elements::from_bytes(dtype, &shape, tensor.tensor_content.clone())
        {
            return Ok(whole);
        }
        let mut budget = self.budget.borrow_mut();
        from_message_within(tensor, None, None, &mut budget)
            .map_err(|error| Refusal::new(format!("has a damaged tensor: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use proto::tensorflow::{AttrValue, TensorProto, TensorShapeProto, tensor_shape_proto::Dim};

    use super::*;

    /// Ones, of which the file has a single one.
    fn ones(size: i64) -> NodeDef {
        let dim = Dim {
            size,
            ..Dim::default()
        };
        let tensor = TensorProto {
            dtype: DataType::Float.number(),
            tensor_shape: Some(TensorShapeProto {
                dim: vec![dim],
                unknown_rank: false,
            }),
            float_val: vec![1.0],
            ..TensorProto::default()
        };
        let value = AttrValue {
            value: Some(attr_value::Value::Tensor(tensor.into())),
        };
        NodeDef {
            attr: [("value".to_owned(), value)].into(),
            ..NodeDef::default()
        }
    }

    #[test]
    fn a_constant_is_decoded_once() {
        let (node, constants) = (ones(1000), Constants::default());
        let address = || constants.get(&node).unwrap().bytes().unwrap().as_ptr();
        assert_eq!(address(), address());
        assert_eq!(
            constants.get(&node).unwrap().as_slice::<f32>(),
            Some(&[1.0; 1000][..])
        );
    }

    #[test]
    fn all_repeated_values_together_are_bounded() {
        let constants = Constants::within(10_000);
        let nodes: Vec<_> = (0..3).map(|_| ones(1000)).collect();
        let decoded: Vec<_> = nodes.iter().map(|it| constants.get(it).is_ok()).collect();
        assert_eq!(decoded, [true, true, false]);
        assert!(constants.get(&ones(1 << 60)).is_err());
        assert!(constants.get(&ones(10)).is_ok());
    }
}
