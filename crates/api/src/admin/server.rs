//! The admin port: health, metrics and the list of models, separate from the clients' ports.
//!
//! It opens before any model loads and closes last, so that probes can watch both. Not here: the pages
//! themselves (`pages`).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::pages::{Pages, drop_body, html_page, is_read, response};
use crate::access::admit::admit;
use crate::access::auth::Auth;
use crate::tfs::rest::{model_list, refusal};
use base::vocabulary::Api;
use net::catch_panic::catch_panic;
use net::head::Head;
use net::limit::{ExemptCall, LoadShed};
use serving::inference::InferenceService;

/// The admin port as a hyper service.
#[derive(Clone)]
pub struct AdminService {
    pages: Pages,
    inference: InferenceService,
    auth: Auth,
    admission: LoadShed,
}

impl AdminService {
    /// A port with these pages and the states of the models of `inference`.
    pub fn new(pages: Pages, inference: InferenceService, auth: Auth, admission: LoadShed) -> Self {
        Self {
            pages,
            inference,
            auth,
            admission,
        }
    }

    async fn answer<B>(&self, request: &mut Request<B>) -> Response<Bytes> {
        let head = Head::of(request);
        let admitted = match self.admission.enter(Some(ExemptCall::Probe), &head).await {
            Ok(admitted) => admitted,
            Err(error) => return refusal(&error),
        };
        let mut response = self.find(request).await;
        if let Err(error) = admitted.hold_answer(response.body().len()) {
            return refusal(&error);
        }
        response.extensions_mut().insert(Arc::new(admitted));
        response
    }

    async fn find<B>(&self, request: &mut Request<B>) -> Response<Bytes> {
        let caller = match admit(&self.auth, &self.pages, request).await {
            Ok(caller) => caller,
            Err(refusal) => return refusal,
        };
        let (method, uri) = (request.method(), request.uri());
        let page = self.pages.monitoring(uri);
        if let Some(page) = page.or_else(|| self.pages.own(method, uri.path())) {
            return page;
        }
        if uri.path() == "/v1/models" && is_read(method) {
            if let Err(error) = caller.may_any(Api::Status) {
                return refusal(&error);
            }
            let list = model_list(&self.inference, &caller);
            return response(StatusCode::OK, "application/json", list);
        }
        html_page(StatusCode::NOT_FOUND)
    }
}

impl<B: Send + Sync + 'static> hyper::service::Service<Request<B>> for AdminService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<B>) -> Self::Future {
        let admin = self.clone();
        Box::pin(async move {
            let answered = catch_panic(admin.answer(&mut request)).await;
            let mut response = answered.unwrap_or_else(|error| refusal(&error));
            if request.method() == Method::HEAD {
                drop_body(&mut response);
            }
            Ok(response.map(Full::new))
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::service::Service;
    use tokio::sync::watch;

    use super::*;
    use crate::admin::health::Readiness;
    use crate::admin::pages::Copies;
    use base::error::Result;
    use base::id::ModelSpec;
    use serving::monitoring::Metrics;
    use serving::servable::{ServableHandle, ServableLookup, ServableState};

    /// Panics at every call.
    struct Fragile;

    impl ServableLookup for Fragile {
        fn servable_handle(&self, _: &ModelSpec) -> Result<ServableHandle> {
            panic!("a secret of the server")
        }

        fn states(&self, _: &str) -> Vec<ServableState> {
            panic!("a secret of the server")
        }

        fn models(&self) -> Vec<Arc<str>> {
            panic!("a secret of the server")
        }
    }

    #[tokio::test]
    async fn a_panic_is_answered() {
        let metrics = Arc::new(Metrics::new());
        let (_, stopped) = watch::channel(false);
        let pages = Pages {
            metrics: Arc::clone(&metrics),
            readiness: Readiness::new(stopped, || panic!("a secret of the server")),
            shows_errors: true,
            monitoring_path: None,
            copies: Copies::default(),
        };
        let inference = InferenceService::new(Arc::new(Fragile), metrics);
        let admin = AdminService::new(pages, inference, Auth::default(), LoadShed::new(1, 1000));
        for (path, status) in [("/readyz", 500), ("/v1/models", 500), ("/healthz", 200)] {
            let answer = admin.call(Request::get(path).body(()).unwrap()).await;
            let answer = answer.unwrap();
            assert_eq!(answer.status(), status, "{path}");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8_lossy(&body);
            assert!(!body.contains("secret"), "{body}");
        }
    }
}
