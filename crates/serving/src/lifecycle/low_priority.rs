//! A loader that leaves the CPUs to requests while another loader works.
//!
//! The other loader works on a thread of its own with low priority. On Linux a thread inherits the
//! priority of the thread that starts it, and raising it again needs privileges. So code that starts
//! threads for later use must stay outside of it: warmup, which can start threads for runs. A backend
//! starts its threads before the first load.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, scope};

use super::Loader;
use crate::servable::Servable;
use base::error::{Code, Result, ServingError};
use base::id::ServableId;

/// The reduction of the priority. With 5, a load next to one busy thread gets a quarter of a CPU.
const NICENESS: i32 = 5;

/// Loads on threads of low priority.
pub struct LowPriorityLoader {
    inner: Arc<dyn Loader>,
}

impl LowPriorityLoader {
    /// Wraps `inner`, whose loads must not start threads that outlive them.
    pub fn new(inner: Arc<dyn Loader>) -> Self {
        Self { inner }
    }
}

impl Loader for LowPriorityLoader {
    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable> {
        let span = tracing::Span::current();
        let load = || {
            lower_priority();
            span.in_scope(|| self.inner.load(id, directory))
        };
        scope(|scope| {
            let thread = Builder::new().name("load-graphs".to_owned());
            let thread = thread.spawn_scoped(scope, load).map_err(|error| {
                let text = format!("no thread for a load: {error}");
                ServingError::new(Code::ResourceExhausted, text).caused_by(error)
            })?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

/// Lowers the priority of this thread, if the system has priorities per thread.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    // SAFETY: nice takes a number and touches no memory.
    unsafe {
        // Lowering the priority never fails; if it did, the load would only compete with requests.
        libc::nice(NICENESS);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = NICENESS;
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;

    /// Records the niceness of the threads on which it is called.
    #[derive(Default)]
    struct Noting(Mutex<Vec<i64>>);

    impl Loader for Noting {
        fn load(&self, id: &ServableId, _: &Path) -> Result<Servable> {
            self.0.lock().unwrap().push(niceness());
            Ok(Servable::new(
                id.clone(),
                [],
                BTreeMap::new(),
                &Arc::default(),
            ))
        }
    }

    /// The niceness of this thread: field 19 of its `stat`, see proc_pid_stat(5).
    fn niceness() -> i64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name
            .split_whitespace()
            .nth(16)
            .unwrap()
            .parse()
            .unwrap()
    }

    #[test]
    fn load_is_nice_and_its_caller_is_not() {
        let before = niceness();
        let noting = Arc::<Noting>::default();
        let loader = LowPriorityLoader::new(Arc::<Noting>::clone(&noting));

        loader
            .load(&ServableId::new("m", 1), Path::new("m/1"))
            .unwrap();

        // 19 is the highest niceness.
        assert_eq!(*noting.0.lock().unwrap(), [(before + 5).min(19)]);
        assert_eq!(niceness(), before);
    }

    struct Panicking;

    impl Loader for Panicking {
        fn load(&self, _: &ServableId, _: &Path) -> Result<Servable> {
            panic!("on purpose")
        }
    }

    #[test]
    #[should_panic(expected = "on purpose")]
    fn panic_passes_through() {
        let loader = LowPriorityLoader::new(Arc::new(Panicking));
        let _ = loader.load(&ServableId::new("m", 1), Path::new("m/1"));
    }
}
