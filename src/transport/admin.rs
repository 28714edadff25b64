//! The admin port: health, metrics and the list of models, apart from what clients use.
//!
//! It opens before any model loads and closes last, so that probes see both. Not here: the pages
//! themselves (`pages`).

use std::convert::Infallible;
use std::pin::Pin;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::admit::admit;
use super::auth::Auth;
use super::pages::{Pages, drop_body, html_page, is_read, response};
use super::rest::{model_list, refusal};
use crate::inference::InferenceService;
use crate::monitoring::Api;

/// The admin port as a hyper service.
#[derive(Clone)]
pub struct AdminService {
    pages: Pages,
    inference: InferenceService,
    auth: Auth,
}

impl AdminService {
    /// A port with these pages and the states of these models.
    pub fn new(pages: Pages, inference: InferenceService, auth: Auth) -> Self {
        Self {
            pages,
            inference,
            auth,
        }
    }

    async fn answer<B>(&self, request: &mut Request<B>) -> Response<Bytes> {
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
            let mut response = admin.answer(&mut request).await;
            if request.method() == Method::HEAD {
                drop_body(&mut response);
            }
            Ok(response.map(Full::new))
        })
    }
}
