//! Copies of functions, one for each combination of element types that they are called with.
//!
//! A division is made safe by the type of its operands. In a function that is called with several types
//! that type is unknown, and the guard for unknown types needs kernels that ONNX Runtime does not have for
//! every type. Each copy is called with one combination, so that its divisions have one type. All types whose
//! division needs no guard count as one.
//!
//! Not here: the guards (`integer_division`), functions whose types depend on attributes: they get the guard for any
//! type.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};

use super::integer_division::elem_of;
use super::known::{Elem, Facts, FunctionKey, call_key, key_of, may_be_operator};
use super::visit::{NodeContext, Replaced, Visit};
use super::{OnnxModel, is_op, traverse};
use base::error::{Result, ServingError};
use proto::onnx::{FunctionProto, NodeProto};

/// Most combinations of types that one function can be called with.
const MAX_COPIES: usize = 32;

impl OnnxModel {
    /// Copies the functions that divide numbers of several types, themselves or in functions that they
    /// call, for each combination of types that they are called with.
    ///
    /// # Errors
    ///
    /// `UNIMPLEMENTED` for a function with too many combinations.
    pub(super) fn specialise_divisions(&mut self) -> Result<()> {
        let mut functions = self.proto.functions.iter();
        if !functions.any(|it| any_node(it, |node| is_op(node, "Div"))) {
            return Ok(());
        }
        self.import_onnx();
        let divide = self.functions_of_unknown_divisions()?;
        if divide.is_empty() {
            return Ok(());
        }
        let original = self.proto.functions.clone();
        let copies = RefCell::new(Copies::of(self, &original, divide));
        let mut rename = |node: &NodeProto, context: &mut NodeContext<'_>| {
            copies.borrow_mut().renamed(node, context)
        };
        let mut visit = Visit::of(self, &original, &mut rename);
        visit.main(self.graph_mut(), &HashSet::new())?;
        let mut made = Vec::new();
        loop {
            let Some(copy) = copies.borrow_mut().queue.pop_front() else {
                break;
            };
            let Some(function) = original.iter().find(|it| key_of(it) == copy.of) else {
                continue;
            };
            let mut function = function.clone();
            function.name = Some(copy.name);
            visit.defaults(std::slice::from_mut(&mut function))?;
            visit.function(&mut function, &facts(&copy.elems))?;
            made.push(function);
        }
        // Those that are copied are among the copies, by their own name.
        let replaced: HashSet<FunctionKey> = made.iter().map(key_of).collect();
        let functions = &mut self.proto.functions;
        functions.retain(|it| !replaced.contains(&key_of(it)));
        functions.extend(made);
        Ok(())
    }

    /// The functions with a division of which it is not known whether it is of integers, and those that
    /// call them; of functions that are called. None where it is not clear which function a call is of.
    fn functions_of_unknown_divisions(&mut self) -> Result<HashSet<FunctionKey>> {
        let original = self.proto.functions.clone();
        let keys: HashSet<FunctionKey> = original.iter().map(key_of).collect();
        let mut found = HashSet::new();
        let is_unclear = |it: &FunctionKey| may_be_operator(&it.0);
        if keys.len() < original.len() || keys.iter().any(is_unclear) {
            return Ok(found);
        }
        let is_unknown = Cell::new(false);
        let mut look = |node: &NodeProto, context: &mut NodeContext<'_>| {
            let is_division = elem_of(node, context) == Some(Elem::Unknown);
            is_unknown.set(is_unknown.get() || is_division);
            Ok(None)
        };
        let mut visit = Visit::of(self, &original, &mut look);
        visit.main(self.graph_mut(), &HashSet::new())?;
        visit.defaults(&mut self.proto.functions)?;
        for function in &mut self.proto.functions {
            if let Some(inputs) = visit.called_with(function) {
                is_unknown.set(false);
                visit.function(function, &inputs)?;
                if is_unknown.get() {
                    found.insert(key_of(function));
                }
            }
        }
        let called = original.iter();
        let called = called.filter(|it| visit.called_with(it).is_some());
        let called: Vec<&FunctionProto> = called.collect();
        loop {
            let known = found.len();
            for function in &called {
                if any_node(function, |node| found.contains(&call_key(node))) {
                    found.insert(key_of(function));
                }
            }
            if found.len() == known {
                return Ok(found);
            }
        }
    }
}

/// Whether a function, or a graph nested in it, has such a node.
fn any_node(function: &FunctionProto, is_wanted: impl Fn(&NodeProto) -> bool) -> bool {
    let mut found = false;
    let mut look = |node: &NodeProto| found |= is_wanted(node);
    traverse::for_each_node(&function.node, &mut look);
    for attribute in &function.attribute_proto {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            traverse::for_each_node(&graph.node, &mut look);
        }
    }
    found
}

/// The facts about inputs of these types.
fn facts(elems: &[Elem]) -> Vec<Facts> {
    let facts = |&elem: &Elem| {
        let mut facts = Facts::default();
        facts.elem = elem;
        facts
    };
    elems.iter().map(facts).collect()
}

/// The copies of functions that calls ask for.
struct Copies {
    origin: String,
    /// The functions that are copied.
    divide: HashSet<FunctionKey>,
    /// The names of copies by the types of their inputs.
    names: HashMap<FunctionKey, Vec<(Vec<Elem>, String)>>,
    /// Names of operators and functions, with their domains.
    taken: HashSet<(String, String)>,
    /// Copies whose own calls have not been looked at.
    queue: VecDeque<FunctionCopy>,
}

struct FunctionCopy {
    of: FunctionKey,
    name: String,
    elems: Vec<Elem>,
}

impl Copies {
    fn of(model: &OnnxModel, functions: &[FunctionProto], divide: HashSet<FunctionKey>) -> Self {
        let mut taken = HashSet::new();
        let bodies = functions.iter().map(|it| &it.node);
        for nodes in bodies.chain([&model.graph().node]) {
            traverse::for_each_node(nodes, &mut |node| {
                taken.insert((node.domain().to_owned(), node.op_type().to_owned()));
            });
        }
        let names = functions.iter();
        taken.extend(names.map(|it| (it.domain().to_owned(), it.name().to_owned())));
        Self {
            origin: model.origin.clone(),
            divide,
            names: HashMap::new(),
            taken,
            queue: VecDeque::new(),
        }
    }

    /// The call of the copy for the types that a node gives.
    fn renamed(&mut self, node: &NodeProto, context: &NodeContext<'_>) -> Replaced {
        let key = call_key(node);
        if !context.is_call || !self.divide.contains(&key) {
            return Ok(None);
        }
        let inputs = 0..node.input.len();
        let elem = |index| match context.known.input(node, index).elem {
            elem if elem.may_be_wide_integer() => elem,
            _ => Elem::Other,
        };
        let name = self.name(&key, inputs.map(elem).collect())?;
        if name == key.1 {
            return Ok(None);
        }
        Ok(Some(vec![NodeProto {
            op_type: Some(name),
            ..node.clone()
        }]))
    }

    /// The name of the copy of a function for these types; the first keeps that of the function.
    fn name(&mut self, function: &FunctionKey, elems: Vec<Elem>) -> Result<String> {
        let (domain, name, _) = function;
        let names = self.names.entry(function.clone()).or_default();
        if let Some((_, found)) = names.iter().find(|(of, _)| *of == elems) {
            return Ok(found.clone());
        }
        if names.len() == MAX_COPIES {
            return Err(ServingError::unimplemented(format!(
                "{}: the function {domain}.{name} divides and is called with more than {MAX_COPIES} \
                 combinations of element types. Split it into several functions",
                self.origin
            )));
        }
        let mut number = names.len();
        let mut wanted = name.clone();
        while number > 0 && !self.taken.insert((domain.clone(), wanted.clone())) {
            wanted = format!("{name}.{number}");
            number += 1;
        }
        names.push((elems.clone(), wanted.clone()));
        self.queue.push_back(FunctionCopy {
            of: function.clone(),
            name: wanted.clone(),
            elems,
        });
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::node;
    use proto::onnx::{
        AttributeProto, GraphProto, ModelProto, TypeProto, ValueInfoProto,
        tensor_proto::DataType as OnnxType, type_proto,
    };

    fn input(name: &str, elem: OnnxType) -> ValueInfoProto {
        let tensor = type_proto::Tensor {
            elem_type: Some(elem as i32),
            shape: None,
        };
        ValueInfoProto {
            name: Some(name.to_owned()),
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::TensorType(tensor)),
                ..TypeProto::default()
            }),
            ..ValueInfoProto::default()
        }
    }

    /// The functions of a model that calls one of this body with each of the types, and the names in its calls.
    fn specialised(types: &[OnnxType], body: Vec<NodeProto>) -> (Vec<String>, Vec<String>) {
        let name = |index: usize| format!("x{index}");
        let types = types.iter().enumerate();
        let calls = types.clone().map(|(index, _)| NodeProto {
            domain: Some("local".to_owned()),
            ..node("Half", &[&name(index)], &format!("y{index}"))
        });
        let graph = GraphProto {
            input: types
                .clone()
                .map(|(index, it)| input(&name(index), *it))
                .collect(),
            node: calls.collect(),
            ..GraphProto::default()
        };
        let function = FunctionProto {
            name: Some("Half".to_owned()),
            domain: Some("local".to_owned()),
            input: vec!["a".to_owned()],
            output: vec!["b".to_owned()],
            node: body,
            ..FunctionProto::default()
        };
        let proto = ModelProto {
            graph: Some(graph),
            functions: vec![function],
            ..ModelProto::default()
        };
        let mut model = OnnxModel::parse("test", &proto.encode_to_vec()).unwrap();
        model.specialise_divisions().unwrap();
        let functions = model.proto.functions.iter().map(|it| it.name().to_owned());
        let called = model.graph().node.iter().map(|it| it.op_type().to_owned());
        (functions.collect(), called.collect())
    }

    #[test]
    fn types_that_are_divided_without_a_guard_share_a_copy() {
        let types = [
            OnnxType::Float,
            OnnxType::Int32,
            OnnxType::Int16,
            OnnxType::Int64,
            OnnxType::Int32,
        ];
        let (functions, called) = specialised(&types, vec![node("Div", &["a", "a"], "b")]);
        assert_eq!(functions, ["Half", "Half.1", "Half.2"]);
        assert_eq!(called, ["Half", "Half.1", "Half", "Half.2", "Half.1"]);
    }

    #[test]
    fn functions_whose_divisions_have_one_type_stay() {
        let one = (vec!["Half".to_owned()], vec!["Half".to_owned(); 2]);
        let division = vec![node("Div", &["a", "a"], "b")];
        let narrow = [OnnxType::Float, OnnxType::Int16];
        assert_eq!(specialised(&narrow, division.clone()), one);
        let same = [OnnxType::Int32, OnnxType::Int32];
        assert_eq!(specialised(&same, division), one);
        let mut cast = node("Cast", &["a"], "float");
        cast.attribute.push(AttributeProto {
            name: Some("to".to_owned()),
            i: Some(OnnxType::Float as i64),
            ..AttributeProto::default()
        });
        let several = [OnnxType::Int64, OnnxType::Int32];
        let floats = vec![cast, node("Div", &["float", "float"], "b")];
        assert_eq!(specialised(&several, floats), one);
    }
}
