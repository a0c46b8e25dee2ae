//! The way over a socket of our own, with hyper's low-level connection on it.

use std::net::SocketAddr;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use hyper_util::rt::TokioIo;

use super::answer::Wanted;
use super::request::{Request, server_name};
use crate::check::{CheckSpec, HttpSpec, HttpVersion, Route};
use crate::failure::{Failure, Phase};
use crate::probe::explain::explain;
use crate::probe::h2;
use crate::probe::stream::{self, Opened};
use crate::probe::tls::Tls;
use crate::probe::{Passed, progress};

#[derive(Debug)]
pub(super) struct Direct {
    target: SocketAddr,
    route: Route,
    tls: Option<Tls>,
    version: HttpVersion,
    request: hyper::Request<Empty<Bytes>>,
}

impl Direct {
    pub(super) fn new(
        spec: &CheckSpec,
        http: &HttpSpec,
        request: Request,
    ) -> Result<Direct, Failure> {
        let protocol: &[u8] = match http.version {
            HttpVersion::Http1 => b"http/1.1",
            HttpVersion::Http2 => b"h2",
        };
        let tls = match &http.tls {
            Some(tls) => {
                let name = server_name(spec.target, http.host.as_deref(), tls)?;
                Some(Tls::new(tls, &name, &[protocol])?)
            }
            None => None,
        };
        let request = match http.version {
            HttpVersion::Http1 => as_http1(request)?,
            HttpVersion::Http2 => as_http2(request, tls.is_some())?,
        };
        Ok(Direct {
            target: spec.target,
            route: spec.route.clone(),
            tls,
            version: http.version,
            request,
        })
    }

    pub(super) async fn exchange(&self, wanted: &Wanted) -> Result<Passed, Failure> {
        let mut opened = stream::open(self.target, &self.route, self.tls.as_ref()).await?;
        let warning = opened.warning.take();
        progress::enter(|connected_after| Phase::Waiting { connected_after });
        match self.version {
            HttpVersion::Http1 => self.http1(opened, wanted).await?,
            HttpVersion::Http2 => {
                let judge = |response| wanted.judge(response);
                h2::exchange(opened, self.tls.is_some(), self.request.clone(), judge).await?;
            }
        }
        Ok(Passed {
            warning,
            weight: None,
        })
    }

    async fn http1(&self, opened: Opened, wanted: &Wanted) -> Result<(), Failure> {
        let io = TokioIo::new(opened.stream);
        let (mut sender, connection) = http1::handshake(io)
            .await
            .map_err(|error| explain(&error))?;
        let exchange = async {
            let response = sender
                .send_request(self.request.clone())
                .await
                .map_err(|error| explain(&error))?;
            wanted.judge(response).await
        };
        h2::beside(connection, exchange).await
    }
}

fn as_http1(request: Request) -> Result<hyper::Request<Empty<Bytes>>, Failure> {
    let path = path(&request)?;
    let mut parts = hyper::Request::new(Empty::new());
    *parts.method_mut() = request.method;
    *parts.uri_mut() = Uri::from(path);
    *parts.headers_mut() = request.headers;
    Ok(parts)
}

/// HTTP/2 has the host in the URI, and no word for the end of a connection (RFC 9113 §8.2.2, 8.3.1).
fn as_http2(mut request: Request, tls: bool) -> Result<hyper::Request<Empty<Bytes>>, Failure> {
    let host = request.headers.remove(HOST);
    request.headers.remove(CONNECTION);
    let authority = host.as_ref().map_or(&b""[..], |host| host.as_bytes());
    let authority = Authority::try_from(authority)
        .map_err(|error| Failure::Invalid(format!("host {host:?}: {error}")))?;
    let uri = Uri::builder()
        .scheme(if tls { Scheme::HTTPS } else { Scheme::HTTP })
        .authority(authority)
        .path_and_query(path(&request)?)
        .build()
        .map_err(|error| Failure::Invalid(error.to_string()))?;
    let mut parts = hyper::Request::new(Empty::new());
    *parts.method_mut() = request.method;
    *parts.uri_mut() = uri;
    *parts.headers_mut() = request.headers;
    Ok(parts)
}

fn path(request: &Request) -> Result<PathAndQuery, Failure> {
    let path = request.path();
    PathAndQuery::try_from(path.as_str())
        .map_err(|error| Failure::Invalid(format!("path {path:?}: {error}")))
}
