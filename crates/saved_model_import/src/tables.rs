//! The contents of lookup tables, as the model's initialisation leaves them.
//!
//! Not here: reading them in a signature (`ops::table`).

mod contents;
mod fold;
mod run;
mod text_file;

use std::collections::HashMap;

use base::error::Result;
use base::tensor::{DataType, Tensor as Elements};
use proto::tensorflow::{MetaGraphDef, NodeDef, attr_value};

use self::run::Run;
use crate::files::Files;
use crate::graph::resource_name;
use crate::graph::{Graph, attribute};
use crate::refusal::Refusal;
use crate::restore::Variables;

/// The operators that make a table, and whether signatures could add keys to it.
const TABLE_OPS: &[(&str, bool)] = &[
    ("HashTable", false),
    ("HashTableV2", false),
    ("MutableHashTable", true),
    ("MutableHashTableV2", true),
    ("MutableHashTableOfTensors", true),
    ("MutableHashTableOfTensorsV2", true),
];

/// All lookup tables of a model, by the names that are unique in the model.
#[derive(Default)]
pub(crate) struct Tables {
    by_name: HashMap<String, Table>,
}

/// A lookup table.
pub(crate) struct Table {
    /// Whether keys can be added and replaced. TensorFlow fills the other tables once.
    pub(crate) is_mutable: bool,
    pub(crate) key_dtype: DataType,
    pub(crate) value_dtype: DataType,
    /// Of the value of one key.
    pub(crate) value_shape: Vec<usize>,
    state: State,
}

enum State {
    /// A mutable table is empty then; any other cannot be read.
    Untouched,
    Filled(Contents),
    /// It is filled in a way that is not followed.
    Unknown(String),
}

/// The keys and values of a table.
pub(crate) struct Contents {
    /// A vector. No key occurs twice.
    pub(crate) keys: Elements,
    /// One for each key, along the first axis.
    pub(crate) values: Elements,
}

impl Tables {
    /// Runs the restore operation and the initialisation of the model, as far as they fill tables.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if TensorFlow's initialisation would fail too: for a missing or malformed asset, and
    /// for a key with two values.
    pub(crate) fn of(
        origin: &str,
        meta_graph: &MetaGraphDef,
        graph: &Graph<'_>,
        files: &dyn Files,
        variables: &Variables<'_>,
    ) -> Result<Self> {
        let functions = graph.functions.values().map(|it| &it.body);
        let bodies = std::iter::once(&graph.main).chain(functions);
        let nodes = bodies.flat_map(|it| it.nodes.values());
        let mut tables = Self::default();
        for node in nodes {
            if let Some(table) = Table::declared(node) {
                tables
                    .by_name
                    .insert(resource_name(node).to_string(), table);
            }
        }
        if tables.by_name.is_empty() {
            return Ok(tables);
        }
        let is_saved = tables.by_name.values().any(|it| it.is_mutable);
        let mut run = Run::new(origin, graph, files, variables, tables);
        if let Some(saver) = meta_graph.saver_def.as_ref().filter(|_| is_saved) {
            run.main(&saver.restore_op_name, HashMap::new())?;
        }
        let assets = run::assets(meta_graph);
        for node in run::initialisers(meta_graph) {
            run.main(&node, assets.clone())?;
        }
        Ok(run.finish())
    }

    /// A table that can be read.
    pub(crate) fn get(&self, name: &str) -> std::result::Result<&Table, Refusal> {
        let table = self.by_name.get(name);
        table.ok_or_else(|| Refusal::new(format!("reads the table '{name}', which nothing makes")))
    }
}

impl Table {
    /// The table that a node makes; `None` if it makes none, or one of unknown dtypes or shape.
    fn declared(node: &NodeDef) -> Option<Self> {
        let (_, is_mutable) = TABLE_OPS.iter().find(|(op, _)| *op == node.op)?;
        let dtype = |name: &str| match attribute(node, name)? {
            attr_value::Value::Type(number) => DataType::from_number(*number),
            _ => None,
        };
        let value_shape = match attribute(node, "value_shape") {
            Some(attr_value::Value::Shape(shape)) => crate::op::shape_of(shape).sizes()?,
            _ => Vec::new(),
        };
        Some(Self {
            is_mutable: *is_mutable,
            key_dtype: dtype("key_dtype")?,
            value_dtype: dtype("value_dtype")?,
            value_shape,
            state: State::Untouched,
        })
    }

    /// The keys and values; `None` if there are none.
    pub(crate) fn contents(&self) -> std::result::Result<Option<&Contents>, Refusal> {
        match &self.state {
            State::Filled(contents) => Ok(Some(contents)),
            State::Untouched if self.is_mutable => Ok(None),
            State::Untouched => Err(Refusal::new("reads a table that nothing initialises")),
            State::Unknown(why) => Err(Refusal::new(format!("reads a table {why}"))),
        }
    }

    /// The number of keys. TensorFlow counts none in a table that is not initialised.
    pub(crate) fn len(&self) -> std::result::Result<usize, Refusal> {
        match self.state {
            State::Untouched => Ok(0),
            _ => Ok(self.contents()?.map_or(0, |it| it.keys.len())),
        }
    }
}
