//! The pages about the server itself, which the REST port and the admin port share.
//!
//! None of them has a path of TensorFlow Serving's API, whose paths all begin with `/v1/`. The configured
//! metrics page takes precedence at any path.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response, StatusCode, Uri};

use super::health::{self, Readiness};
use crate::access::{Access, CallHead, CountsAs, Right};
use crate::http_reply::{is_read, response};
use base::vocabulary::{Api, Protocol};
use net::limit::ExemptCall;
use net::request_line::full_path;
use serving::monitoring::{Metrics, PAGE_CONTENT_TYPE, TENSORFLOW_PAGE_CONTENT_TYPE};

const ALIVE_PATH: &str = "/healthz";
const READY_PATH: &str = "/readyz";
/// Prometheus' default path.
const METRICS_PATH: &str = "/metrics";

/// The data and settings of the pages.
#[derive(Clone)]
pub struct Pages {
    /// Shown on `/metrics` and the configured page.
    pub metrics: Arc<Metrics>,
    /// Shown on `/readyz`.
    pub readiness: Readiness,
    /// Whether `/readyz` shows the errors of missing models. They contain names of files on the server.
    pub shows_errors: bool,
    /// The path of TensorFlow Serving's metrics page, from `--monitoring_config_file`.
    pub monitoring_path: Option<String>,
    /// Copies of the metrics pages that are being sent.
    pub copies: Copies,
}

/// The copies of the metrics pages that readers have not read yet. If there are many, a new reader gets a
/// slightly older copy.
#[derive(Clone, Debug, Default)]
pub struct Copies(Arc<[PageCopies; 2]>);

#[derive(Debug, Default)]
struct PageCopies {
    held: Arc<AtomicUsize>,
    last: Mutex<Option<(Instant, Bytes)>>,
}

/// The number of copies of one page that readers can hold before they share.
const MAX_FRESH: usize = 16;
/// The maximum age of a shared copy.
const MAX_AGE: Duration = Duration::from_secs(1);

impl PageCopies {
    /// The current page, or a slightly older copy.
    fn page(&self, render: impl FnOnce() -> String) -> Bytes {
        let has_few = || self.held.load(Ordering::Relaxed) <= MAX_FRESH;
        if has_few() {
            return self.copy(render());
        }
        // Rendered under the lock, so that readers who arrive meanwhile share it.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((rendered, page)) if rendered.elapsed() < MAX_AGE => page.clone(),
            _ => {
                let page = self.copy(render());
                *last = Some((Instant::now(), page.clone()));
                page
            }
        }
    }

    fn copy(&self, page: String) -> Bytes {
        self.held.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(PageCopy {
            page,
            held: Arc::clone(&self.held),
        })
    }
}

/// A copy that is counted for as long as it is held.
struct PageCopy {
    page: String,
    held: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for PageCopy {
    fn as_ref(&self) -> &[u8] {
        self.page.as_bytes()
    }
}

impl Drop for PageCopy {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pages {
    /// TensorFlow Serving's metrics page, if it is configured and at this path. It answers all methods; a
    /// query is an error (`prometheus_exporter.cc`).
    pub fn monitoring(&self, uri: &Uri) -> Option<Response<Bytes>> {
        let (path, full) = (uri.path(), full_path(uri));
        if !self.is_monitoring(path) {
            return None;
        }
        if full != path {
            let text = format!("Unexpected path: {full}. Should be {path}");
            return Some(response(StatusCode::BAD_REQUEST, "text/plain", text.into()));
        }
        let page = self.copies.0[1].page(|| self.metrics.tensorflow_page());
        Some(response(StatusCode::OK, TENSORFLOW_PAGE_CONTENT_TYPE, page))
    }

    /// Whether this is the path of a metrics page.
    pub(crate) fn is_metrics(&self, path: &str) -> bool {
        path == METRICS_PATH || self.is_monitoring(path)
    }

    /// A request for a page, for the door. Health pages need no credentials, metrics as the rules say; any
    /// other path needs an identity.
    pub(crate) fn call_head(&self, path: &str, access: &Access) -> CallHead<'static> {
        let right = match path {
            ALIVE_PATH | READY_PATH if !self.is_metrics(path) => Right::Open,
            path if self.is_metrics(path) => access.right_to_metrics(),
            _ => Right::Identity,
        };
        CallHead {
            protocol: Protocol::Rest,
            api: Api::Other,
            model: None,
            right,
            counts_as: CountsAs::Exempt(ExemptCall::Probe),
        }
    }

    /// Whether TensorFlow Serving's metrics page is at this path.
    pub(crate) fn is_monitoring(&self, path: &str) -> bool {
        self.monitoring_path.as_deref() == Some(path)
    }

    /// Whether one of our own pages is at this path.
    pub(crate) fn is_own(&self, path: &str) -> bool {
        [ALIVE_PATH, READY_PATH, METRICS_PATH].contains(&path)
    }

    /// Our own page at this path.
    pub fn own(&self, method: &Method, path: &str) -> Option<Response<Bytes>> {
        if !is_read(method) {
            return None;
        }
        match path {
            ALIVE_PATH => Some(health::alive()),
            READY_PATH => Some(self.readiness.page(self.shows_errors)),
            METRICS_PATH => {
                let page = self.copies.0[0].page(|| self.metrics.page());
                Some(response(StatusCode::OK, PAGE_CONTENT_TYPE, page))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_readers_that_do_not_read_share_a_copy() {
        let copies = PageCopies::default();
        let mut renderings = 0;
        let mut page = || {
            copies.page(|| {
                renderings += 1;
                "page".to_owned()
            })
        };
        for _ in 0..100 {
            assert_eq!(page(), "page");
        }
        let held: Vec<_> = (0..1000).map(|_| page()).collect();
        // The first shared copy counts as one more.
        assert!(copies.held.load(Ordering::Relaxed) <= MAX_FRESH + 2);
        drop(held);
        page();
        assert!(renderings > 100 + MAX_FRESH);
    }
}
