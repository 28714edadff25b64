//! Copies of functions, one for each combination of element types that they are called with.
//!
//! A division is made safe by the type of its operands. In a function that is called with several types
//! that type is unknown, and the guard for unknown types needs kernels that ONNX Runtime does not have for
//! every type. Each copy is called with one combination, so that its divisions have one type. All types whose
//! division needs no guard count as one, and so do those of inputs that no division depends on. Attributes that
//! set types are a part of the combination. Beyond [`MAX_NODES`], calls share a copy for any type.
//!
//! Not here: the guards (`integer_division`).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::integer_division::elem_of;
use super::known::{Elem, Facts, FunctionKey, call_key, key_of, may_be_operator};
use super::visit::{NodeContext, Replaced, Visit};
use super::{OnnxModel, is_op, traverse};
use base::error::Result;
use proto::onnx::{AttributeProto, FunctionProto, NodeProto};

/// Most nodes that the copies for certain types can have together.
const MAX_NODES: usize = 1 << 16;
/// How many times the copies can tell more about the types that other functions are called with.
const MAX_ROUNDS: usize = 4;
/// The attributes that set the element type of a node's output.
const TYPE_ATTRIBUTES: &[&str] = &["to", "dtype", "output_dtype", "output_datatype", "value"];

impl OnnxModel {
    /// Copies the functions that divide numbers of several types, themselves or in functions that they
    /// call, for each combination of types that they are called with.
    pub(super) fn specialise_divisions(&mut self) -> Result<()> {
        let mut functions = self.proto.functions.iter();
        if !functions.any(|it| any_node(it, |node| is_op(node, "Div"))) {
            return Ok(());
        }
        self.import_onnx();
        let mut room = MAX_NODES;
        for _ in 0..MAX_ROUNDS {
            let before = self.proto.functions.len();
            self.specialise_within(&mut room)?;
            if self.proto.functions.len() == before {
                break;
            }
        }
        Ok(())
    }

    /// Copies functions with at most `room` nodes together, and those for any type. Reduces `room`.
    fn specialise_within(&mut self, room: &mut usize) -> Result<()> {
        let divide = self.functions_of_unknown_divisions()?;
        if divide.is_empty() {
            return Ok(());
        }
        let original = self.proto.functions.clone();
        let copies = RefCell::new(Copies::of(self, &original, divide, *room));
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
            set_attributes(&mut function.node, &copy.types.attributes);
            visit.defaults(std::slice::from_mut(&mut function))?;
            visit.function(&mut function, &facts(&copy.types.elems))?;
            made.push(function);
        }
        // Those that are copied are among the copies, by their own name.
        let replaced: HashSet<FunctionKey> = made.iter().map(key_of).collect();
        *room = copies.borrow().room;
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

/// Gives the attributes that the nodes take from the caller these values.
fn set_attributes(nodes: &mut [NodeProto], values: &[AttributeProto]) {
    for node in nodes {
        for attribute in &mut node.attribute {
            let mut values = values.iter();
            if let Some(value) = values.find(|it| it.name() == attribute.ref_attr_name()) {
                *attribute = AttributeProto {
                    name: attribute.name.take(),
                    ..value.clone()
                };
            }
        }
        for graph in traverse::subgraphs_mut(node) {
            set_attributes(&mut graph.node, values);
        }
    }
}

/// The things that determine the types in a copy.
#[derive(Clone, PartialEq)]
struct Types {
    /// Of the inputs that a division depends on; the others are unknown.
    elems: Vec<Elem>,
    /// The attributes that set types, by the names that the function has for them.
    attributes: Vec<AttributeProto>,
}

/// A function that is copied.
struct Source {
    /// Whether a division depends on each input.
    reaches: Vec<bool>,
    /// The names of attributes that set types, with their defaults.
    attributes: Vec<(String, Option<AttributeProto>)>,
    nodes: usize,
}

impl Source {
    fn of(function: &FunctionProto, divide: &HashSet<FunctionKey>) -> Self {
        let mut nodes = 0;
        let mut names = BTreeSet::new();
        let mut look = |node: &NodeProto| {
            nodes += 1;
            let mut take = |attribute: &AttributeProto| {
                // A function that is called can set a type by an attribute of any name.
                let is_type = TYPE_ATTRIBUTES.contains(&attribute.name());
                if !attribute.ref_attr_name().is_empty()
                    && (is_type || divide.contains(&call_key(node)))
                {
                    names.insert(attribute.ref_attr_name().to_owned());
                }
            };
            node.attribute.iter().for_each(&mut take);
        };
        traverse::for_each_node(&function.node, &mut look);
        let default = |name: &str| {
            let mut defaults = function.attribute_proto.iter();
            defaults.find(|it| it.name() == name).cloned()
        };
        Self {
            reaches: reaches_division(function, divide),
            attributes: names
                .into_iter()
                .map(|it| (it.clone(), default(&it)))
                .collect(),
            nodes,
        }
    }

    fn types(&self, node: &NodeProto, context: &NodeContext<'_>) -> Types {
        let elem = |index| match context.known.input(node, index).elem {
            _ if !self.reaches.get(index).copied().unwrap_or_default() => Elem::Unknown,
            elem if elem.may_be_wide_integer() => elem,
            _ => Elem::Other,
        };
        let value = |(name, default): &(String, Option<AttributeProto>)| {
            let given = traverse::attribute(node, name).or(default.as_ref());
            // One that the caller takes from its own caller, or a graph, is not a value.
            let value = given.filter(|it| it.ref_attr_name().is_empty() && it.g.is_none())?;
            let mut value = value.clone();
            value.name = Some(name.clone());
            Some(value)
        };
        Types {
            elems: (0..node.input.len()).map(elem).collect(),
            attributes: self.attributes.iter().filter_map(value).collect(),
        }
    }
}

/// Whether a division, or a call of a function in `divide`, depends on each input of a function.
fn reaches_division(function: &FunctionProto, divide: &HashSet<FunctionKey>) -> Vec<bool> {
    let divides = |node: &NodeProto| is_op(node, "Div") || divide.contains(&call_key(node));
    let mut read = HashSet::new();
    // Against the order of the nodes; a node with a division inside counts as a division.
    for node in function.node.iter().rev() {
        let mut is_read = divides(node) || node.output.iter().any(|it| read.contains(it.as_str()));
        for graph in traverse::subgraphs(node) {
            traverse::for_each_node(&graph.node, &mut |inner| is_read |= divides(inner));
        }
        if is_read {
            traverse::for_each_name_read(node, &mut |name| {
                read.insert(name);
            });
        }
    }
    let inputs = function.input.iter();
    inputs.map(|it| read.contains(it.as_str())).collect()
}

/// The copies of functions that calls ask for.
struct Copies {
    /// The functions that are copied.
    sources: HashMap<FunctionKey, Source>,
    /// The names of copies by their types.
    names: HashMap<FunctionKey, Vec<(Types, String)>>,
    /// Names of operators and functions, with their domains.
    taken: HashSet<(String, String)>,
    /// Copies whose own calls have not been looked at.
    queue: VecDeque<FunctionCopy>,
    /// How many more nodes copies for certain types can have.
    room: usize,
}

struct FunctionCopy {
    of: FunctionKey,
    name: String,
    types: Types,
}

impl Copies {
    fn of(
        model: &OnnxModel,
        functions: &[FunctionProto],
        divide: HashSet<FunctionKey>,
        room: usize,
    ) -> Self {
        let mut taken = HashSet::new();
        let bodies = functions.iter().map(|it| &it.node);
        for nodes in bodies.chain([&model.graph().node]) {
            traverse::for_each_node(nodes, &mut |node| {
                taken.insert((node.domain().to_owned(), node.op_type().to_owned()));
            });
        }
        let names = functions.iter();
        taken.extend(names.map(|it| (it.domain().to_owned(), it.name().to_owned())));
        let copied = functions.iter().filter(|it| divide.contains(&key_of(it)));
        let sources = copied.map(|it| (key_of(it), Source::of(it, &divide)));
        Self {
            sources: sources.collect(),
            names: HashMap::new(),
            taken,
            queue: VecDeque::new(),
            room,
        }
    }

    /// The call of the copy for the types that a node gives.
    fn renamed(&mut self, node: &NodeProto, context: &NodeContext<'_>) -> Replaced {
        let key = call_key(node);
        let Some(source) = self.sources.get(&key).filter(|_| context.is_call) else {
            return Ok(None);
        };
        let name = self.name(&key, source.types(node, context));
        if name == key.1 {
            return Ok(None);
        }
        Ok(Some(vec![NodeProto {
            op_type: Some(name),
            ..node.clone()
        }]))
    }

    /// The name of the copy of a function for these types; the first keeps that of the function.
    fn name(&mut self, function: &FunctionKey, mut types: Types) -> String {
        let (domain, name, _) = function;
        let names = self.names.entry(function.clone()).or_default();
        if let Some((_, found)) = names.iter().find(|(of, _)| *of == types) {
            return found.clone();
        }
        let nodes = self.sources.get(function).map_or(0, |it| it.nodes);
        if let Some(left) = self.room.checked_sub(nodes) {
            self.room = left;
        } else {
            // One copy for all further combinations.
            types.elems.clear();
            types.attributes.clear();
            if let Some((_, found)) = names.iter().find(|(of, _)| *of == types) {
                return found.clone();
            }
        }
        let mut number = names.len();
        let mut wanted = name.clone();
        while number > 0 && !self.taken.insert((domain.clone(), wanted.clone())) {
            wanted = format!("{name}.{number}");
            number += 1;
        }
        names.push((types.clone(), wanted.clone()));
        self.queue.push_back(FunctionCopy {
            of: function.clone(),
            name: wanted.clone(),
            types,
        });
        wanted
    }
}

#[cfg(test)]
mod tests;
