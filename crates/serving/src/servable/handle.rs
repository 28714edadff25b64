//! Handles that keep a servable alive, and the notification when the last one is gone.
//!
//! Not here: which servables are unloaded, and on which thread they are destroyed
//! (`lifecycle::manager`).

use std::ops::Deref;
use std::sync::Arc;

use super::Servable;

/// Keeps a servable alive for as long as a request needs it.
#[derive(Clone)]
pub struct ServableHandle(Arc<Lease>);

/// Shared by all handles of one servable.
struct Lease {
    servable: Arc<Servable>,
    /// Invariant: comes after `servable`, because fields are dropped in this order.
    _at_end: Option<CallOnDrop>,
}

/// Calls a function when it is dropped.
struct CallOnDrop(Box<dyn Fn() + Send + Sync>);

impl ServableHandle {
    /// The first handle of a servable that only its handles keep alive.
    pub fn new(servable: Servable) -> Self {
        Self(Arc::new(Lease {
            servable: Arc::new(servable),
            _at_end: None,
        }))
    }

    /// The first handle of a servable that its owner keeps alive, too. After the last handle has
    /// released the servable, `at_end` is called on the thread that dropped it, which can be an async
    /// worker: `at_end` must not block.
    pub(crate) fn lend(
        servable: &Arc<Servable>,
        at_end: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Lease {
            servable: Arc::clone(servable),
            _at_end: Some(CallOnDrop(Box::new(at_end))),
        }))
    }

    /// The servable itself; `None` if another handle or an owner keeps it alive.
    pub(crate) fn into_inner(self) -> Option<Servable> {
        Arc::into_inner(Arc::into_inner(self.0)?.servable)
    }

    /// Whether both are handles of the same servable.
    #[cfg(test)]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.servable, &other.0.servable)
    }

    /// Shows a test whether the servable still exists.
    #[cfg(test)]
    pub(crate) fn watch(&self) -> std::sync::Weak<Servable> {
        Arc::downgrade(&self.0.servable)
    }
}

impl Deref for ServableHandle {
    type Target = Servable;

    fn deref(&self) -> &Servable {
        &self.0.servable
    }
}

impl Drop for CallOnDrop {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use base::id::ServableId;

    fn servable() -> Servable {
        Servable::new(
            ServableId::new("m", 1),
            [],
            BTreeMap::new(),
            &Arc::default(),
        )
    }

    #[test]
    fn last_handle_calls_after_it_has_released_the_servable() {
        let owned = Arc::new(servable());
        let watch = Arc::downgrade(&owned);
        let seen = Arc::new(AtomicUsize::new(0));
        let for_end = Arc::clone(&seen);
        let first = ServableHandle::lend(&owned, move || {
            for_end.fetch_add(watch.strong_count(), Ordering::SeqCst);
        });
        let second = first.clone();
        drop(first);
        assert_eq!(seen.load(Ordering::SeqCst), 0);
        drop(second);
        // The owner's reference is the only one that was left.
        assert_eq!(seen.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn only_the_last_handle_returns_the_servable() {
        let first = ServableHandle::new(servable());
        let second = first.clone();
        assert!(first.is_same(&second));
        assert!(first.into_inner().is_none());
        assert_eq!(second.into_inner().unwrap().id, ServableId::new("m", 1));
        let owned = Arc::new(servable());
        let lent = ServableHandle::lend(&owned, || {});
        assert!(lent.into_inner().is_none());
    }
}
