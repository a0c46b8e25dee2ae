//! The request, as every probe of a check sends it.

use std::net::{IpAddr, SocketAddr};

use hyper::Method;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::Url;

use crate::check::{HttpSpec, TlsSpec};
use crate::failure::Failure;

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Its host is what TLS sends and verifies, its port the target's. It steers only reqwest: the
    /// name in it is never resolved, and the `Host` header is set apart from it.
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
}

impl Request {
    pub(super) fn new(target: SocketAddr, http: &HttpSpec) -> Result<Request, Failure> {
        let method = Method::from_bytes(http.method.as_bytes())
            .map_err(|_| Failure::Invalid(format!("{:?} is not an HTTP method", http.method)))?;
        Ok(Request {
            method,
            url: url(target, http)?,
            headers: headers(target, http)?,
        })
    }

    /// Path and query.
    pub(super) fn path(&self) -> String {
        match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }
}

fn url(target: SocketAddr, http: &HttpSpec) -> Result<Url, Failure> {
    if !http.path.starts_with('/') {
        return Err(Failure::Invalid(format!(
            "path {:?} does not begin with /",
            http.path
        )));
    }
    let (scheme, host) = match &http.tls {
        Some(tls) => ("https", server_name(target, http.host.as_deref(), tls)?),
        None => ("http", target.ip().to_string()),
    };
    let host = match host.parse::<IpAddr>() {
        Ok(address) => bracketed(address),
        Err(_name) => host,
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

/// The name for TLS: `sni`, or else the `Host` header's, or else the address.
pub(in crate::probe) fn server_name(
    target: SocketAddr,
    host: Option<&str>,
    tls: &TlsSpec,
) -> Result<String, Failure> {
    let Some(wanted) = tls.sni.as_deref().or(host) else {
        return Ok(target.ip().to_string());
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
    Ok(target.ip().to_string())
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

/// What the target is called where a check does not say it: its address, and its port where it is
/// not the default one.
pub(in crate::probe) fn authority(target: SocketAddr, tls: bool) -> String {
    let default_port = if tls { 443 } else { 80 };
    if target.port() == default_port {
        bracketed(target.ip())
    } else {
        target.to_string()
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
    let host = authority(target, http.tls.is_some());
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
    headers
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static("*/*"));
    Ok(headers)
}

fn header_value(value: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(value)
        .map_err(|_| Failure::Invalid(format!("{value:?} is not a header value")))
}
