//! An HTTP request is made, over TLS where asked, and its answer judged.
//!
//! There are two ways to the server: reqwest for HTTP/1.1 over TLS along the routing table's way, and
//! hyper on a socket of our own (`direct`) for what reqwest has no options for (a check's route, and
//! HTTP/2 alone on a connection that ends with the probe) and for plain HTTP/1.1, where it takes a
//! quarter less of the processor for thousands of checks. Request, judgement and words are the same.

mod answer;
mod client;
mod direct;
mod request;

use std::time::Duration;

use super::{Passed, progress};
use crate::check::{CheckSpec, HttpSpec, HttpVersion, Route};
use crate::failure::{Failure, Phase};

use answer::Wanted;
use client::Client;
use direct::Direct;
use request::Request;

pub(super) use request::{authority, server_name};

#[derive(Debug)]
pub(super) struct HttpProbe {
    way: Way,
    wanted: Wanted,
    timeout: Duration,
}

#[derive(Debug)]
enum Way {
    Client(Client),
    Direct(Direct),
}

impl HttpProbe {
    /// A probe for the runner.
    pub(super) fn new(spec: &CheckSpec, http: &HttpSpec) -> Result<HttpProbe, Failure> {
        let request = Request::new(spec.target, http)?;
        let way = match &http.tls {
            Some(tls) if spec.route == Route::default() && http.version == HttpVersion::Http1 => {
                Way::Client(Client::new(spec.target, tls, request)?)
            }
            Some(_) | None => Way::Direct(Direct::new(spec, http, request)?),
        };
        Ok(HttpProbe::along(way, spec, http))
    }

    /// A probe whose steps are told apart, which only our own socket can.
    pub(super) fn traced(spec: &CheckSpec, http: &HttpSpec) -> Result<HttpProbe, Failure> {
        let request = Request::new(spec.target, http)?;
        let way = Way::Direct(Direct::new(spec, http, request)?);
        Ok(HttpProbe::along(way, spec, http))
    }

    fn along(way: Way, spec: &CheckSpec, http: &HttpSpec) -> HttpProbe {
        HttpProbe {
            way,
            wanted: Wanted::new(http),
            timeout: spec.timeout,
        }
    }

    pub(super) async fn run(&self) -> Result<Passed, Failure> {
        match &self.way {
            Way::Client(client) => {
                let exchange = client.exchange(&self.wanted);
                progress::within(self.timeout, Phase::ConnectingTls, exchange).await
            }
            Way::Direct(direct) => {
                let exchange = direct.exchange(&self.wanted);
                progress::within(self.timeout, Phase::Connecting, exchange).await
            }
        }
    }
}
