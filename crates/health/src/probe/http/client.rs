//! The way through reqwest: a client of its own for each check, since what it connects to is a
//! client's property.

use std::net::SocketAddr;

use hyper::http;
use reqwest::Client as Reqwest;
use reqwest::redirect::Policy;
use reqwest::tls::TlsInfo;
use rustls::pki_types::CertificateDer;
use tower::util::MapFutureLayer;

use super::answer::Wanted;
use super::request::Request;
use crate::check::TlsSpec;
use crate::failure::{Failure, Phase};
use crate::probe::expiry::Expiry;
use crate::probe::explain::{explain, innermost};
use crate::probe::tls;
use crate::probe::{Passed, progress};

#[derive(Debug)]
pub(super) struct Client {
    reqwest: Reqwest,
    request: Request,
    expiry: Expiry,
}

impl Client {
    pub(super) fn new(
        target: SocketAddr,
        tls: &TlsSpec,
        request: Request,
    ) -> Result<Client, Failure> {
        let config = tls::config(tls, &[b"http/1.1"])?;
        let mut builder = Reqwest::builder()
            .tls_backend_preconfigured(config)
            .tls_info(true)
            .http1_only()
            .no_proxy()
            .redirect(Policy::none())
            .pool_max_idle_per_host(0)
            .connector_layer(MapFutureLayer::new(note_connected));
        if let Some(name) = request.url.domain() {
            builder = builder.resolve_to_addrs(name, &[target]);
        }
        Ok(Client {
            reqwest: builder.build().map_err(|error| cause(&error))?,
            request,
            expiry: Expiry::new(tls),
        })
    }

    pub(super) async fn exchange(&self, wanted: &Wanted) -> Result<Passed, Failure> {
        let mut request =
            reqwest::Request::new(self.request.method.clone(), self.request.url.clone());
        *request.headers_mut() = self.request.headers.clone();
        let response = self
            .reqwest
            .execute(request)
            .await
            .map_err(|error| cause(&error))?;
        let tls = response.extensions().get::<TlsInfo>();
        let certificate = tls.and_then(TlsInfo::peer_certificate);
        let warning = certificate
            .and_then(|certificate| self.expiry.warning(&CertificateDer::from(certificate)));
        wanted.judge(http::Response::from(response)).await?;
        Ok(Passed {
            warning,
            weight: None,
        })
    }
}

/// Passes a connection on, once it is there, after the handshake.
async fn note_connected<T, E>(connecting: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let connection = connecting.await?;
    progress::enter(|connected_after| Phase::Waiting { connected_after });
    Ok(connection)
}

fn cause(error: &reqwest::Error) -> Failure {
    if error.is_builder() {
        return Failure::Invalid(innermost(error));
    }
    explain(error)
}
