//! The memory limit, over all requests together, for tensors that clients did not send in full: defaults
//! and padding of examples, and a context that is repeated for each of them.
//!
//! Not here: the limit for one request (`codec::example`, `serving::inference::examples`), the memory for
//! the data that clients send (`net::limit`).

use std::sync::atomic::{AtomicU64, Ordering};

use base::error::{Result, ServingError};

/// The bytes of such tensors, and their limit.
#[derive(Debug)]
pub struct ExpansionBudget {
    held: AtomicU64,
    max: u64,
}

/// The bytes held for one request. They are released when this is dropped.
#[derive(Debug)]
pub struct Expansion<'a> {
    budget: &'a ExpansionBudget,
    bytes: u64,
}

impl ExpansionBudget {
    /// A budget of this many bytes.
    pub fn new(max: u64) -> Self {
        Self {
            held: AtomicU64::new(0),
            max,
        }
    }

    /// A budget without a limit, for calls that do not come from a client.
    pub fn unbounded() -> Self {
        Self::new(u64::MAX)
    }

    /// Reserves this many bytes for a request. A single request gets as many as it needs.
    ///
    /// # Errors
    ///
    /// [`ServingError::Overloaded`] if that exceeds the limit while other requests hold some.
    pub fn hold(&self, bytes: usize) -> Result<Expansion<'_>> {
        let bytes = bytes as u64;
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        let expansion = Expansion {
            budget: self,
            bytes,
        };
        if bytes > 0 && before > 0 && before.saturating_add(bytes) > self.max {
            return Err(ServingError::Overloaded {
                reason: format!(
                    "the defaults, padding and contexts of the examples in flight have reached {} \
                     bytes together (half of --max_bytes_in_flight)",
                    self.max
                ),
            });
        }
        Ok(expansion)
    }
}

impl Drop for Expansion<'_> {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::Code;

    #[test]
    fn requests_together_are_bounded_and_one_alone_is_not() {
        let budget = ExpansionBudget::new(100);
        let alone = budget.hold(1000).unwrap();
        assert_eq!(
            budget.hold(1).unwrap_err().code(),
            Code::ResourceExhausted,
            "the bound is reached"
        );
        // A request that needs no bytes always passes.
        drop(budget.hold(0).unwrap());
        drop(alone);
        let _first = budget.hold(60).unwrap();
        let _second = budget.hold(40).unwrap();
        budget.hold(1).unwrap_err();
        assert_eq!(budget.held.load(Ordering::Relaxed), 100);
    }
}
