//! An HTTP/1.1 request is made, over TLS where asked, and its answer judged.

use std::cell::Cell;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Request, Response, Url};
use tokio::time::Instant;
use tower::util::MapFutureLayer;

use super::tls;
use crate::check::{CheckSpec, HttpSpec, TlsSpec};
use crate::failure::{Failure, Phase};

/// How much of a body is searched, in bytes.
const BODY_LIMIT: usize = 1 << 20;

/// A client of its own for each check (what it connects to is a client's property in reqwest), and
/// the request as it goes out each time.
#[derive(Debug)]
pub(super) struct HttpProbe {
    client: Client,
    method: Method,
    url: Url,
    headers: HeaderMap,
    status: Vec<(u16, u16)>,
    body_contains: Option<String>,
    timeout: Duration,
    /// Where a probe begins.
    first_phase: Phase,
}

/// What the connector tells the probe that waits for it; both run in one task.
struct Progress {
    started: Instant,
    phase: Cell<Phase>,
}

tokio::task_local! {
    static PROGRESS: Progress;
}

impl HttpProbe {
    pub(super) fn new(spec: &CheckSpec, http: &HttpSpec) -> Result<HttpProbe, Failure> {
        let method = Method::from_bytes(http.method.as_bytes())
            .map_err(|_| Failure::Invalid(format!("{:?} is not an HTTP method", http.method)))?;
        let url = url(spec.target, http)?;
        Ok(HttpProbe {
            client: client(spec.target, &url, http.tls.as_ref())?,
            method,
            url,
            headers: headers(spec.target, http)?,
            status: http.status.clone(),
            body_contains: http.body_contains.clone(),
            timeout: spec.timeout,
            first_phase: match http.tls {
                Some(_) => Phase::ConnectingTls,
                None => Phase::Connecting,
            },
        })
    }

    pub(super) async fn run(&self) -> Result<(), Failure> {
        let progress = Progress {
            started: Instant::now(),
            phase: Cell::new(self.first_phase),
        };
        let in_time = async {
            match tokio::time::timeout(self.timeout, self.exchange()).await {
                Ok(outcome) => outcome,
                Err(_elapsed) => Err(Failure::Timeout {
                    after: self.timeout,
                    phase: PROGRESS.with(|progress| progress.phase.get()),
                }),
            }
        };
        PROGRESS.scope(progress, in_time).await
    }

    async fn exchange(&self) -> Result<(), Failure> {
        let mut request = Request::new(self.method.clone(), self.url.clone());
        *request.headers_mut() = self.headers.clone();
        let response = self
            .client
            .execute(request)
            .await
            .map_err(|error| explain(&error))?;

        let got = response.status().as_u16();
        let passes = |(first, last): &(u16, u16)| (*first..=*last).contains(&got);
        if !self.status.iter().any(passes) {
            return Err(Failure::Status {
                got,
                wanted: self.status.clone(),
            });
        }
        match &self.body_contains {
            Some(wanted) => search(response, wanted).await,
            None => Ok(()),
        }
    }
}

/// Reads the body until `wanted` has come, up to [`BODY_LIMIT`].
async fn search(mut response: Response, wanted: &str) -> Result<(), Failure> {
    let wanted_bytes = wanted.as_bytes();
    let status = response.status().as_u16();
    let mut received = 0_usize;
    // Only what may still become a match is kept.
    let mut unmatched: Vec<u8> = Vec::new();
    loop {
        set_phase(|_| Phase::Reading { status, received });
        let Some(chunk) = response.chunk().await.map_err(|error| explain(&error))? else {
            return Err(body_failure(wanted, received, false));
        };
        let room = BODY_LIMIT - received;
        let taken = chunk.get(..room).unwrap_or(&chunk);
        received += taken.len();
        unmatched.extend_from_slice(taken);
        if contains(&unmatched, wanted_bytes) {
            return Ok(());
        }
        if chunk.len() > room {
            return Err(body_failure(wanted, received, true));
        }
        let kept = wanted_bytes.len().saturating_sub(1);
        unmatched.drain(..unmatched.len().saturating_sub(kept));
    }
}

fn body_failure(wanted: &str, searched: usize, truncated: bool) -> Failure {
    Failure::Body {
        wanted: wanted.to_owned(),
        searched,
        truncated,
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty()
        || haystack
            .windows(needle.len())
            .any(|window| window == needle)
}

fn client(target: SocketAddr, url: &Url, tls: Option<&TlsSpec>) -> Result<Client, Failure> {
    // A client for plain HTTP is given a configuration too: reqwest would otherwise read the
    // system's roots once more for each.
    let tls = if tls.is_some_and(|tls| tls.verify) {
        tls::verifying()?
    } else {
        tls::trusting()?
    };
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .no_proxy()
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .connector_layer(MapFutureLayer::new(note_connected));
    if let Some(name) = url.domain() {
        builder = builder.resolve_to_addrs(name, &[target]);
    }
    builder.build().map_err(|error| explain(&error))
}

/// Passes a connection on, once it is there (with TLS: after the handshake).
async fn note_connected<T, E>(connecting: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let connection = connecting.await?;
    set_phase(|started| Phase::Waiting {
        connected_after: started.elapsed(),
    });
    Ok(connection)
}

fn set_phase(phase: impl FnOnce(Instant) -> Phase) {
    // Outside of a probe there is nobody to tell.
    let _outside = PROGRESS.try_with(|progress| progress.phase.set(phase(progress.started)));
}

/// The URL only steers reqwest: its host is what TLS sends and verifies, its port the target's. The
/// name in it is never resolved, and the `Host` header is set apart from it.
fn url(target: SocketAddr, http: &HttpSpec) -> Result<Url, Failure> {
    if !http.path.starts_with('/') {
        return Err(Failure::Invalid(format!(
            "path {:?} does not begin with /",
            http.path
        )));
    }
    let (scheme, host) = match &http.tls {
        Some(tls) => ("https", server_name(target, http.host.as_deref(), tls)?),
        None => ("http", bracketed(target.ip())),
    };
    let text = format!("{scheme}://{host}:{}{}", target.port(), http.path);
    let url = Url::parse(&text).map_err(|error| Failure::Invalid(format!("{text}: {error}")))?;
    // A URL knows more spellings of an address than std ("10.1", "0x0a000001"), and reqwest would
    // connect there.
    let address = url.host_str().map(without_port).unwrap_or_default();
    if address
        .parse()
        .is_ok_and(|dialled: IpAddr| dialled != target.ip())
    {
        return Err(Failure::Invalid(format!(
            "{text}: the server name means the address {address}, not the target"
        )));
    }
    Ok(url)
}

/// The name for TLS, as it stands in a URL: `sni`, or else the `Host` header's, or else the address.
fn server_name(target: SocketAddr, host: Option<&str>, tls: &TlsSpec) -> Result<String, Failure> {
    let Some(wanted) = tls.sni.as_deref().or(host) else {
        return Ok(bracketed(target.ip()));
    };
    let name = without_port(wanted);
    let Ok(address) = name.parse::<IpAddr>() else {
        return Ok(name.to_owned());
    };
    // reqwest connects to an address in a URL, so it must be the target's. An address is never sent
    // as SNI: where nothing is verified, it makes no difference.
    if address != target.ip() && tls.verify {
        return Err(Failure::Invalid(format!(
            "the certificate of {} cannot be verified for another address, {address}: set sni to a \
             name that the certificate has",
            target.ip()
        )));
    }
    Ok(bracketed(target.ip()))
}

/// The host of `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
fn without_port(text: &str) -> &str {
    if let Some((address, _port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        Some(_) | None => text,
    }
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The check's headers, and those that it does not set itself.
fn headers(target: SocketAddr, http: &HttpSpec) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (name, value) in &http.headers {
        headers.append(
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| Failure::Invalid(format!("{name:?} is not a header name")))?,
            header_value(value)?,
        );
    }
    if let Some(host) = &http.host {
        headers.insert(HOST, header_value(host)?);
    }
    let default_port = if http.tls.is_some() { 443 } else { 80 };
    let address = bracketed(target.ip());
    let host = if target.port() == default_port {
        address
    } else {
        format!("{address}:{}", target.port())
    };
    headers.entry(HOST).or_insert(header_value(&host)?);
    headers
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static(concat!(
            "vipd/",
            env!("CARGO_PKG_VERSION")
        )));
    // The server closes first, so that it keeps the TIME_WAIT, not this machine.
    headers
        .entry(CONNECTION)
        .or_insert(HeaderValue::from_static("close"));
    Ok(headers)
}

fn header_value(value: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(value)
        .map_err(|_| Failure::Invalid(format!("{value:?} is not a header value")))
}

/// Finds the cause in reqwest's chain of errors, whose outer links say nothing of use.
fn explain(error: &reqwest::Error) -> Failure {
    if error.is_builder() {
        return Failure::Invalid(innermost(error));
    }
    let mut link: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = link {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Failure::Tls(tls::explain(tls));
        }
        link = match cause.downcast_ref::<io::Error>() {
            // `source` skips the error that an io::Error wraps.
            Some(io) => match io.get_ref() {
                Some(wrapped) if wrapped.is::<rustls::Error>() || wrapped.is::<io::Error>() => {
                    Some(wrapped)
                }
                Some(_) | None => return explain_io(io),
            },
            None => cause.source(),
        };
    }
    Failure::Protocol(innermost(error))
}

fn explain_io(error: &io::Error) -> Failure {
    let in_handshake = PROGRESS
        .try_with(|progress| progress.phase.get() == Phase::ConnectingTls)
        .unwrap_or(false);
    if in_handshake && error.kind() == io::ErrorKind::UnexpectedEof {
        return Failure::Tls("the server closed the connection in the TLS handshake".into());
    }
    Failure::from(error)
}

fn innermost(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
