//! The parts of a SavedModel outside of its graph: the values of variables and the contents of lookup tables.
//!
//! Not here: finding them (`restore`, `tables`).

use std::cell::Cell;
use std::rc::Rc;

use base::error::Result;
use proto::tensorflow::MetaGraphDef;

use crate::constants::Constants;
use crate::files::Files;
use crate::graph::Graph;
use crate::restore::Variables;
use crate::tables::Tables;
use crate::transposed::Transposed;

/// The values of variables and the contents of lookup tables, by the names that are unique in the model.
pub(crate) struct Resources<'f> {
    pub(crate) variables: Variables<'f>,
    pub(crate) tables: Tables,
    pub(crate) constants: Constants,
    /// How many nodes were translated for all signatures.
    pub(crate) translated_nodes: Cell<usize>,
    /// The weights that were transposed for a signature.
    pub(crate) transposed: Rc<Transposed>,
}

impl<'f> Resources<'f> {
    /// Reads the values that the graph restores and initialises.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for a damaged checkpoint or asset.
    pub(crate) fn of(
        origin: &str,
        meta_graph: &MetaGraphDef,
        graph: &Graph<'_>,
        files: &'f dyn Files,
    ) -> Result<Self> {
        let constants = Constants::default();
        let variables = Variables::of(origin, meta_graph, graph, &constants, files)?;
        let tables = Tables::of(origin, meta_graph, graph, files, &variables)?;
        Ok(Self {
            variables,
            tables,
            constants,
            translated_nodes: Cell::new(0),
            transposed: Rc::default(),
        })
    }
}
