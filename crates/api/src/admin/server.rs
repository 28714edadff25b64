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

use super::model_list::model_list;
use super::pages::Pages;
use crate::access::{Access, CallContext, CallHead, CountsAs, Right};
use crate::http_reply::{JSON, drop_body, error_response, html_page, is_read, response};
use base::vocabulary::{Api, Protocol};
use net::catch_panic::catch_panic;
use net::limit::ExemptCall;
use serving::inference::InferenceService;

/// The path of the list of models.
const MODELS_PATH: &str = "/v1/models";

/// The admin port as a hyper service.
#[derive(Clone)]
pub struct AdminService {
    pages: Pages,
    inference: InferenceService,
    access: Access,
}

impl AdminService {
    /// A port with these pages and the states of the models of `inference`.
    pub fn new(pages: Pages, inference: InferenceService, access: Access) -> Self {
        Self {
            pages,
            inference,
            access,
        }
    }

    async fn answer<B>(&self, request: &mut Request<B>) -> Response<Bytes> {
        let is_list = request.uri().path() == MODELS_PATH && is_read(request.method());
        let call = match is_list && !self.pages.is_metrics(MODELS_PATH) {
            true => CallHead {
                protocol: Protocol::Rest,
                api: Api::Status,
                model: None,
                right: Right::Permission,
                counts_as: CountsAs::Exempt(ExemptCall::Probe),
            },
            false => self.pages.call_head(request.uri().path(), &self.access),
        };
        let context = match self.access.enter(request, &call).await {
            Ok(context) => context,
            Err(error) => return error_response(&error),
        };
        let mut response = self.find(request, &context);
        if let Err(error) = context.admitted().hold_answer(response.body().len()) {
            return error_response(&error);
        }
        let admitted = Arc::clone(context.admitted());
        response.extensions_mut().insert(admitted);
        response
    }

    fn find<B>(&self, request: &Request<B>, context: &CallContext) -> Response<Bytes> {
        let (method, uri) = (request.method(), request.uri());
        let page = self.pages.monitoring(uri);
        if let Some(page) = page.or_else(|| self.pages.own(method, uri.path())) {
            return page;
        }
        if uri.path() == MODELS_PATH && is_read(method) {
            let list = model_list(&self.inference, context.caller());
            return response(StatusCode::OK, JSON, list);
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
            let mut response = answered.unwrap_or_else(|error| error_response(&error));
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
    use crate::access::auth::Auth;
    use crate::admin::health::Readiness;
    use crate::admin::pages::Copies;
    use base::error::Result;
    use base::id::ModelSpec;
    use net::limit::LoadShed;
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
        let inference = InferenceService::new(Arc::new(Fragile), Arc::clone(&metrics));
        let access = Access::new(Auth::default(), LoadShed::new(1, 1000), metrics);
        let admin = AdminService::new(pages, inference, access);
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
