//! Reading the files of a SavedModel.

use base::error::{Result, ServingError};
use bytes::Bytes;

/// The files of a version directory.
pub trait Files {
    /// The contents of a file, by its path in the directory: `variables/variables.index`. `None` if there is no
    /// such file.
    ///
    /// # Errors
    ///
    /// Those of reading, and for a path outside of the directory.
    fn read(&self, path: &str) -> Result<Option<Bytes>>;

    /// The size of a file; `None` if there is no such file.
    ///
    /// # Errors
    ///
    /// As `read`.
    fn size(&self, path: &str) -> Result<Option<u64>> {
        Ok(self.read(path)?.map(|it| it.len() as u64))
    }

    /// A part of a file; `None` if there is no such file.
    ///
    /// # Errors
    ///
    /// As `read`; `INVALID_ARGUMENT` for a part that lies outside of the file.
    fn read_range(&self, path: &str, offset: u64, length: u64) -> Result<Option<Bytes>> {
        let Some(contents) = self.read(path)? else {
            return Ok(None);
        };
        let start = usize::try_from(offset).ok();
        let end = offset.checked_add(length);
        let end = end.and_then(|it| usize::try_from(it).ok());
        let range = start.zip(end).filter(|(_, end)| *end <= contents.len());
        let (start, end) = range.ok_or_else(|| {
            ServingError::invalid_argument(format!("{path} ends before a part that is read"))
        })?;
        Ok(Some(contents.slice(start..end)))
    }
}
