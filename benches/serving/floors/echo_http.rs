//! An empty hyper server: reads the body, answers with a number of bytes.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{bytes_argument, end_with_parent};
use crate::Result;

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let reply = Bytes::from(vec![b' '; bytes_argument(arguments)?]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(reply))
}

async fn serve(reply: Bytes) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    end_with_parent();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let reply = reply.clone();
        let service = service_fn(move |request| answer(request, reply.clone()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    request: Request<Incoming>,
    reply: Bytes,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    // A client that disconnects gets no answer anyway.
    let _ = request.into_body().collect().await;
    let mut response = Response::new(Full::new(reply));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}
