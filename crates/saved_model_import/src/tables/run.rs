//! Runs the operations that fill tables: nodes in the order of their inputs and control inputs, through calls of
//! functions.
//!
//! Nodes that are not followed have no values. A table that is filled with such a value cannot be read.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use base::error::{Result, ServingError};
use base::tensor::Tensor as Elements;
use bytes::Bytes;
use prost::Message;
use proto::tensorflow::{
    AssetFileDef, MetaGraphDef, NodeDef, attr_value, collection_def, tensor_info,
};

use super::contents::Rows;
use super::fold::fold;
use super::text_file::Format;
use super::{TABLE_OPS, Table, Tables};
use crate::files::Files;
use crate::graph::resource_name;
use crate::graph::{Body, Graph, TensorRef, attribute};
use crate::op::Op;
use crate::outputs;
use crate::restore::{Variables, init_op};

/// How many nodes are run, and how deep calls can nest.
const MAX_NODES: usize = 500_000;
const MAX_DEPTH: usize = 100;
/// The nodes that graphs of TensorFlow 1 have to run.
const TABLE_COLLECTION: &str = "table_initializer";
const ASSETS_COLLECTION: &str = "saved_model_assets";

/// The value of an output.
#[derive(Clone)]
pub(super) enum Fact {
    Elements(Elements),
    /// An entry of the checkpoint, which is read when it is needed.
    Entry(Rc<str>),
    Table(Rc<str>),
    Variable(Rc<str>),
    Unknown,
}

pub(super) type Facts<'a> = HashMap<&'a str, Vec<Fact>>;

/// The nodes that initialise the model.
pub(super) fn initialisers(meta_graph: &MetaGraphDef) -> Vec<String> {
    let mut nodes: Vec<String> = init_op(meta_graph).map(str::to_owned).into_iter().collect();
    if let Some(collection) = meta_graph.collection_def.get(TABLE_COLLECTION)
        && let Some(collection_def::Kind::NodeList(list)) = &collection.kind
    {
        nodes.extend(list.value.iter().cloned());
    }
    nodes
}

/// The tensors that stand for the paths of assets, by their nodes.
pub(super) fn assets(meta_graph: &MetaGraphDef) -> Facts<'_> {
    let mut assets: Vec<AssetFileDef> = meta_graph.asset_file_def.clone();
    if assets.is_empty()
        && let Some(collection) = meta_graph.collection_def.get(ASSETS_COLLECTION)
        && let Some(collection_def::Kind::AnyList(list)) = &collection.kind
    {
        let messages = list.value.iter();
        assets.extend(messages.filter_map(|it| AssetFileDef::decode(it.value.as_slice()).ok()));
    }
    let graph = meta_graph.graph_def.iter().flat_map(|it| &it.node);
    let names: HashSet<&str> = graph.map(|it| it.name.as_str()).collect();
    let path = |asset: AssetFileDef| {
        let Some(tensor_info::Encoding::Name(name)) = asset.tensor_info?.encoding else {
            return None;
        };
        let node = *names.get(TensorRef::parse(&name)?.node)?;
        let path = Elements::from_strings(&[], vec![Bytes::from(asset.filename)])?;
        Some((node, vec![Fact::Elements(path)]))
    };
    assets.into_iter().filter_map(path).collect()
}

/// An initialisation that is running.
pub(super) struct Run<'a> {
    origin: &'a str,
    graph: &'a Graph<'a>,
    files: &'a dyn Files,
    stored: &'a Variables<'a>,
    tables: Tables,
    variables: HashMap<Rc<str>, Fact>,
    nodes: usize,
    depth: usize,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        origin: &'a str,
        graph: &'a Graph<'a>,
        files: &'a dyn Files,
        stored: &'a Variables<'a>,
        tables: Tables,
    ) -> Self {
        Self {
            origin,
            graph,
            files,
            stored,
            tables,
            variables: HashMap::new(),
            nodes: 0,
            depth: 0,
        }
    }

    pub(super) fn finish(self) -> Tables {
        self.tables
    }

    /// Runs a node of the main graph. `known` are nodes that have a value already.
    pub(super) fn main(&mut self, node: &str, known: Facts<'a>) -> Result<()> {
        let graph = self.graph;
        let name = node.strip_prefix('^').unwrap_or(node);
        let reference = TensorRef::parse(name).map(|it| it.node);
        let found = reference.and_then(|it| graph.main.nodes.get(it));
        if let Some(found) = found {
            self.body(&graph.main, known, vec![&found.name])?;
        }
        Ok(())
    }

    /// Runs nodes and all that they need, and returns the outputs of all.
    fn body(
        &mut self,
        body: &Body<'a>,
        known: Facts<'a>,
        roots: Vec<&'a str>,
    ) -> Result<Facts<'a>> {
        let mut facts = known;
        for node in order(body, &facts, roots) {
            self.nodes += 1;
            if self.nodes > MAX_NODES {
                return Err(self.error(format!(
                    "its initialisation has more than {MAX_NODES} nodes"
                )));
            }
            let references = node.input.iter().filter_map(|it| TensorRef::parse(it));
            let inputs: Vec<Fact> = references.map(|it| fact(body, &facts, it)).collect();
            let outputs = self.node(node, &inputs)?;
            facts.insert(&node.name, outputs);
        }
        Ok(facts)
    }

    fn node(&mut self, node: &'a NodeDef, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let op = node.op.as_str();
        if TABLE_OPS.iter().any(|(name, _)| *name == op) {
            return Ok(vec![Fact::Table(resource_name(node))]);
        }
        match op {
            "IdentityN" => Ok(inputs.to_vec()),
            "Identity" | "PlaceholderWithDefault" | "StopGradient" | "EnsureShape" => {
                Ok(inputs.first().cloned().into_iter().collect())
            }
            "VarHandleOp" | "Variable" | "VariableV2" => {
                Ok(vec![Fact::Variable(resource_name(node))])
            }
            "Assign" | "AssignVariableOp" => {
                if let [Fact::Variable(name), value] = inputs {
                    self.variables.insert(Rc::clone(name), value.clone());
                }
                Ok(inputs.first().cloned().into_iter().collect())
            }
            "ReadVariableOp" => {
                let value = inputs.first().map(|it| self.elements(it)).transpose()?;
                Ok(value.flatten().map(Fact::Elements).into_iter().collect())
            }
            "RestoreV2" => self.restored(inputs),
            "LookupTableImport"
            | "LookupTableImportV2"
            | "InitializeTable"
            | "InitializeTableV2" => self.fill(inputs, |table, rows| table.import(rows, false)),
            "LookupTableInsert" | "LookupTableInsertV2" => {
                self.fill(inputs, |table, rows| table.insert(rows))
            }
            "InitializeTableFromTextFile" | "InitializeTableFromTextFileV2" => {
                self.read_file(node, inputs)
            }
            "PartitionedCall" | "StatefulPartitionedCall" => match attribute(node, "f") {
                Some(attr_value::Value::Func(function)) => self.call(&function.name, inputs),
                _ => Ok(Vec::new()),
            },
            _ if self.graph.functions.contains_key(op) => self.call(op, inputs),
            _ => self.other(node, inputs),
        }
    }

    /// Any other operator: computed on constants if it is one of a few, else without a value. A table that it
    /// reads might be filled by it.
    fn other(&mut self, node: &NodeDef, inputs: &[Fact]) -> Result<Vec<Fact>> {
        const READS: &[&str] = &["LookupTableFind", "LookupTableSize", "LookupTableExport"];
        let is_read = READS.iter().any(|it| node.op.starts_with(it));
        for input in inputs.iter().filter(|_| !is_read) {
            if let Fact::Table(name) = input {
                self.forget(name, &format!("that {} fills", node.op));
            }
        }
        let mut constants = Vec::with_capacity(inputs.len());
        for input in inputs {
            match self.elements(input)? {
                Some(elements) => constants.push(elements),
                None => return Ok(Vec::new()),
            }
        }
        let folded = fold(node, &constants);
        Ok(folded.map(Fact::Elements).into_iter().collect())
    }

    /// The value of a fact, if it is known.
    fn elements(&self, fact: &Fact) -> Result<Option<Elements>> {
        match fact {
            Fact::Elements(elements) => Ok(Some(elements.clone())),
            Fact::Entry(key) => self.stored.checkpoint_entry(key),
            Fact::Variable(name) => match self.variables.get(name) {
                Some(Fact::Variable(_)) => Ok(None),
                Some(fact) => self.elements(fact),
                None => self.stored.value(name),
            },
            Fact::Table(_) | Fact::Unknown => Ok(None),
        }
    }

    /// Whole entries of the checkpoint.
    fn restored(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let [_, names, slices] = inputs else {
            return Ok(Vec::new());
        };
        let (names, slices) = (self.elements(names)?, self.elements(slices)?);
        let (Some(names), Some(slices)) = (names, slices) else {
            return Ok(Vec::new());
        };
        let (Some(names), Some(slices)) = (names.strings(), slices.strings()) else {
            return Ok(Vec::new());
        };
        let entry = |(name, slice): (&Bytes, &Bytes)| match slice.is_empty() {
            true => Fact::Entry(String::from_utf8_lossy(name).into()),
            false => Fact::Unknown,
        };
        Ok(names.iter().zip(slices).map(entry).collect())
    }

    fn fill(
        &mut self,
        inputs: &[Fact],
        fill: impl FnOnce(&mut Table, Rows) -> std::result::Result<(), String>,
    ) -> Result<Vec<Fact>> {
        let [Fact::Table(name), keys, values] = inputs else {
            return Ok(Vec::new());
        };
        let (keys, values) = (self.elements(keys)?, self.elements(values)?);
        let (Some(keys), Some(values)) = (keys, values) else {
            self.forget(name, "whose keys and values are not constants");
            return Ok(Vec::new());
        };
        let table = self.tables.by_name.get_mut(&**name);
        let filled = table.map_or(Ok(()), |it| fill(it, Rows { keys, values }));
        filled.map_err(|error| self.error(format!("the table '{name}' {error}")))?;
        Ok(Vec::new())
    }

    fn read_file(&mut self, node: &NodeDef, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let [Fact::Table(name), path] = inputs else {
            return Ok(Vec::new());
        };
        let path = self.elements(path)?;
        let path = path.as_ref().and_then(|it| it.strings()?.first());
        let Some(path) = path else {
            self.forget(name, "that is read from a file whose name is not constant");
            return Ok(Vec::new());
        };
        let Some(table) = self.tables.by_name.get(&**name) else {
            return Ok(Vec::new());
        };
        let failed =
            |what: String| self.error(format!("the table '{name}' cannot be initialised: {what}"));
        let format = format(node, table).map_err(failed)?;
        let file = asset(path).ok_or_else(|| failed("its file has no name".to_owned()))?;
        let contents = self.files.read(&file)?;
        let contents = contents.ok_or_else(|| failed(format!("there is no file {file}")))?;
        let rows = format.read(&contents);
        let rows = rows.map_err(|error| failed(format!("{file} {error}")))?;
        let table = self.tables.by_name.get_mut(&**name);
        let filled = table.map_or(Ok(()), |it| it.import(rows, true));
        filled.map_err(|error| self.error(format!("the table '{name}' {error}")))?;
        Ok(Vec::new())
    }

    fn forget(&mut self, name: &str, why: &str) {
        if let Some(table) = self.tables.by_name.get_mut(name) {
            table.forget(why);
        }
    }

    fn call(&mut self, name: &str, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let graph = self.graph;
        let Some(function) = graph.functions.get(name) else {
            return Ok(Vec::new());
        };
        if self.depth >= MAX_DEPTH {
            return Err(self.error(format!(
                "its initialisation nests more than {MAX_DEPTH} calls"
            )));
        }
        let arguments = function.inputs().iter().zip(inputs);
        let known = arguments
            .map(|(argument, fact)| (argument.name.as_str(), vec![fact.clone()]))
            .collect();
        let results = function.results();
        let mut roots: Vec<&str> = results.iter().flatten().map(|it| it.node).collect();
        roots.extend(function.definition.control_ret.values().map(String::as_str));
        // Functions of TensorFlow 1 have no control outputs: all nodes that do something are run.
        let nodes = function.definition.node_def.iter();
        roots.extend(nodes.filter(|it| fills(it)).map(|it| it.name.as_str()));
        self.depth += 1;
        let facts = self.body(&function.body, known, roots);
        self.depth -= 1;
        let facts = facts?;
        let output = |it: &Option<TensorRef<'_>>| {
            it.map_or(Fact::Unknown, |it| fact(&function.body, &facts, it))
        };
        Ok(results.iter().map(output).collect())
    }

    fn error(&self, what: String) -> ServingError {
        ServingError::invalid_argument(format!("{}: {what}", self.origin))
    }
}

fn fills(node: &NodeDef) -> bool {
    node.op.starts_with("InitializeTable") || node.op.starts_with("LookupTableI")
}

/// The value of an output or of an argument.
fn fact(body: &Body<'_>, facts: &Facts<'_>, reference: TensorRef<'_>) -> Fact {
    let position = match body.nodes.get(reference.node) {
        Some(node) => outputs::position(node, reference.output, reference.index),
        None => Some(reference.index),
    };
    let outputs = facts.get(reference.node);
    let fact = outputs.zip(position).and_then(|(it, index)| it.get(index));
    fact.cloned().unwrap_or(Fact::Unknown)
}

/// The nodes that the roots need and wait for, each after those that it needs itself.
fn order<'a>(body: &Body<'a>, known: &Facts<'a>, roots: Vec<&'a str>) -> Vec<&'a NodeDef> {
    let mut order = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    for root in roots {
        let mut stack: Vec<(&NodeDef, usize)> = Vec::new();
        let mut enter = |name: &'a str, stack: &mut Vec<(&'a NodeDef, usize)>| {
            if !known.contains_key(name)
                && let Some(node) = body.nodes.get(name)
                && seen.insert(name)
            {
                stack.push((node, 0));
            }
        };
        enter(root, &mut stack);
        while let Some((node, next)) = stack.last_mut() {
            let node: &'a NodeDef = node;
            let Some(input) = node.input.get(*next) else {
                order.push(node);
                stack.pop();
                continue;
            };
            *next += 1;
            let needed = match input.strip_prefix('^') {
                Some(name) => Some(name),
                None => TensorRef::parse(input).map(|it| it.node),
            };
            if let Some(name) = needed {
                enter(name, &mut stack);
            }
        }
    }
    order
}

/// How a node reads a file.
fn format(node: &NodeDef, table: &Table) -> std::result::Result<Format, String> {
    let op = Op { node, inputs: &[] };
    let delimiter = match op.attr("delimiter") {
        Some(attr_value::Value::S(delimiter)) => delimiter.to_vec(),
        _ => b"\t".to_vec(),
    };
    let [delimiter] = delimiter[..] else {
        return Err("its delimiter is not one character".to_owned());
    };
    Ok(Format {
        key_dtype: table.key_dtype,
        value_dtype: table.value_dtype,
        key_index: op.attr_int("key_index").unwrap_or_default(),
        value_index: op.attr_int("value_index").unwrap_or_default(),
        vocab_size: op.attr_int("vocab_size").unwrap_or(-1),
        delimiter,
        offset: op.attr_int("offset").unwrap_or_default(),
    })
}

/// The file of an asset. Its path is that of the machine where the model was saved; only its name counts.
fn asset(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let name = path.rsplit('/').next()?;
    let is_name = !matches!(name, "" | "." | "..") && !name.contains('\0');
    is_name.then(|| format!("assets/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_an_asset_counts() {
        let of = |path: &str| asset(path.as_bytes());
        assert_eq!(
            of("/somewhere/vocab.txt").as_deref(),
            Some("assets/vocab.txt")
        );
        assert_eq!(of("../../secret").as_deref(), Some("assets/secret"));
        assert_eq!(of("a/.."), None);
        assert_eq!(of(""), None);
    }
}
