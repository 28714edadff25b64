//! The admin port: health, metrics and the list of models, apart from what clients use.
//!
//! It opens before any model loads and closes last, so that probes see both. Not here: the pages
//! themselves (`pages`).

use std::convert::Infallible;
use std::future::{Ready, ready};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::pages::{Pages, drop_body, html_page, is_read, response};
use super::rest::model_list;
use crate::inference::InferenceService;

/// The admin port as a hyper service.
#[derive(Clone)]
pub struct AdminService {
    pages: Pages,
    inference: InferenceService,
}

impl AdminService {
    /// A port with these pages and the states of these models.
    pub fn new(pages: Pages, inference: InferenceService) -> Self {
        Self { pages, inference }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Bytes> {
        let (method, uri) = (request.method(), request.uri());
        let page = self.pages.monitoring(uri);
        if let Some(page) = page.or_else(|| self.pages.own(method, uri.path())) {
            return page;
        }
        if uri.path() == "/v1/models" && is_read(method) {
            let list = model_list(&self.inference);
            return response(StatusCode::OK, "application/json", list);
        }
        html_page(StatusCode::NOT_FOUND)
    }
}

impl<B> hyper::service::Service<Request<B>> for AdminService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let mut response = self.answer(&request);
        if request.method() == Method::HEAD {
            drop_body(&mut response);
        }
        ready(Ok(response.map(Full::new)))
    }
}
