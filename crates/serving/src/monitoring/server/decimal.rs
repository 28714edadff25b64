//! Version numbers as label values.

use std::fmt::{self, Write as _};

/// A number as text, without allocating; empty by default.
#[derive(Default)]
pub(super) struct Decimal {
    digits: [u8; 20],
    length: usize,
}

impl Decimal {
    pub(super) fn new(number: i64) -> Self {
        let mut decimal = Self::default();
        write!(decimal, "{number}").expect("an i64 has at most 20 characters");
        decimal
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[..self.length]).expect("only str is written to it")
    }
}

impl fmt::Write for Decimal {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let free = self.digits.get_mut(self.length..end).ok_or(fmt::Error)?;
        free.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
