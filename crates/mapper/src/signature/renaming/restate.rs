//! Writes the aliases that were found back to the declaration.
//!
//! Not here: finding them (`renaming`), defaults in another dtype or order of axes (`default_value`).

use std::collections::BTreeMap;

use super::Settled;
use crate::signature::alias_change::Side;
use crate::signature::declaration::Declaration;
use base::error::Result;
use proto::tensorflow::TensorInfo;

impl Declaration {
    /// Applies the result for one side.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if a default cannot be restated in the dtype and axes that a map gives the input.
    pub fn take(&mut self, side: Side, settled: &Settled) -> Result<()> {
        let descriptions = settled.descriptions.iter();
        let infos = descriptions
            .clone()
            .map(|(alias, it)| (alias.clone(), it.info.clone()));
        let infos: BTreeMap<String, TensorInfo> = infos.collect();
        let ports = descriptions
            .clone()
            .map(|(alias, it)| (alias.clone(), it.port.clone()));
        self.earlier
            .resize_with(settled.earlier.len(), Default::default);
        let stages = self.earlier.iter_mut().zip(&settled.earlier);
        match side {
            Side::Input => {
                stages.for_each(|(stage, inputs)| stage.inputs.0.clone_from(inputs));
                self.inputs = ports.collect();
                self.kept.clone_from(&settled.kept);
                let of_example = self.example.as_ref().and_then(|example| {
                    let known = self.definition.inputs.remove_entry(&example.alias);
                    known.filter(|(alias, _)| !infos.contains_key(alias))
                });
                self.definition.inputs = infos;
                self.definition.inputs.extend(of_example);
                let before = &self.before;
                let defaults = &mut self.definition.defaults;
                defaults.retain(|alias, _| !before.inputs.contains_key(alias));
                for (alias, it) in descriptions {
                    let Some(mut default) = it.default_now(alias)? else {
                        continue;
                    };
                    if default.dtype == 0 {
                        default.dtype = it.info.dtype;
                    }
                    defaults.insert(alias.clone(), default);
                }
            }
            Side::Output => {
                stages.for_each(|(stage, outputs)| stage.outputs.0.clone_from(outputs));
                self.outputs = ports.collect();
                self.definition.outputs = infos;
            }
        }
        self.changes.extend_from_slice(&settled.changes);
        Ok(())
    }
}
