//! The pages about the server itself, which the REST port and the admin port share.
//!
//! None of them is at a path of TensorFlow Serving's API, whose paths all begin with `/v1/`; the
//! configured metrics page comes first, wherever it is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode, Uri};

use super::health::{self, Readiness};
use net::request_line::full_path;
use serving::monitoring::{Metrics, PAGE_CONTENT_TYPE, TENSORFLOW_PAGE_CONTENT_TYPE};

const ALIVE_PATH: &str = "/healthz";
const READY_PATH: &str = "/readyz";
/// Where Prometheus looks by default.
const METRICS_PATH: &str = "/metrics";

/// What the pages are about.
#[derive(Clone)]
pub struct Pages {
    /// `/metrics` and the configured page show these.
    pub metrics: Arc<Metrics>,
    /// `/readyz` shows this.
    pub readiness: Readiness,
    /// Whether `/readyz` says why models are missing. Texts name files of the server.
    pub shows_errors: bool,
    /// Where `--monitoring_config_file` puts TensorFlow Serving's metrics page.
    pub monitoring_path: Option<String>,
    /// What readers share.
    pub copies: Copies,
}

/// The copies of the metrics pages that readers have not read yet. Where there are many, a new reader
/// gets one that is a moment old.
#[derive(Clone, Debug, Default)]
pub struct Copies(Arc<[PageCopies; 2]>);

#[derive(Debug, Default)]
struct PageCopies {
    held: Arc<AtomicUsize>,
    last: Mutex<Option<(Instant, Bytes)>>,
}

/// Copies of one page that readers may hold before they share.
const MAX_FRESH: usize = 16;
/// The age of a copy that is shared.
const MAX_AGE: Duration = Duration::from_secs(1);

impl PageCopies {
    /// The page as it is now, or as it was a moment ago.
    fn page(&self, render: impl FnOnce() -> String) -> Bytes {
        let has_few = || self.held.load(Ordering::Relaxed) <= MAX_FRESH;
        if has_few() {
            return self.copy(render());
        }
        // Rendered under the lock, so that those who come meanwhile share it.
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

/// Counts itself for as long as somebody holds it.
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
    /// TensorFlow Serving's metrics page, if it is configured and at this path. It answers any
    /// method; a query is an error of its own (`prometheus_exporter.cc`).
    pub fn monitoring(&self, uri: &Uri) -> Option<Response<Bytes>> {
        let (path, full) = (uri.path(), full_path(uri));
        if self.monitoring_path.as_deref() != Some(path) {
            return None;
        }
        if full != path {
            let text = format!("Unexpected path: {full}. Should be {path}");
            return Some(response(StatusCode::BAD_REQUEST, "text/plain", text.into()));
        }
        let page = self.copies.0[1].page(|| self.metrics.tensorflow_page());
        Some(response(StatusCode::OK, TENSORFLOW_PAGE_CONTENT_TYPE, page))
    }

    /// Whether there is a metrics page at this path.
    pub fn is_metrics(&self, path: &str) -> bool {
        path == METRICS_PATH || self.monitoring_path.as_deref() == Some(path)
    }

    /// Whether probes look at this path.
    pub fn is_health(&self, path: &str) -> bool {
        path == ALIVE_PATH || path == READY_PATH
    }

    /// Whether there is a page that answers this.
    pub fn is_at(&self, method: &Method, path: &str) -> bool {
        let is_own = [ALIVE_PATH, READY_PATH, METRICS_PATH].contains(&path) && is_read(method);
        is_own || self.monitoring_path.as_deref() == Some(path)
    }

    /// The page of our own at this path.
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

/// The methods that pages of our own answer.
pub fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// A response with this body.
pub fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// The page that answers what there is no page for.
pub fn html_page(status: StatusCode) -> Response<Bytes> {
    let reason = status.canonical_reason().unwrap_or_default();
    let page = format!(
        "<HTML><HEAD>\n<TITLE>{} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n\
         </BODY></HTML>\n",
        status.as_u16()
    );
    let mut response = response(status, "text/html", page.into());
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// The answer to `HEAD`: the headers as they are, `Content-Length` included.
pub fn drop_body(response: &mut Response<Bytes>) {
    let body = std::mem::take(response.body_mut());
    let length = HeaderValue::from(body.len());
    response.headers_mut().insert(CONTENT_LENGTH, length);
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
        // One more is the first that is shared.
        assert!(copies.held.load(Ordering::Relaxed) <= MAX_FRESH + 2);
        drop(held);
        page();
        assert!(renderings > 100 + MAX_FRESH);
    }
}
