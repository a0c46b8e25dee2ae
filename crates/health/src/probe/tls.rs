//! TLS for the probes: one client configuration for each policy, shared by all checks, and rustls'
//! errors in an operator's words.

use std::sync::{Arc, LazyLock, OnceLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::failure::Failure;

/// The configuration that verifies certificates with the roots of this system. They are read at
/// the first use and kept; without any, each use looks again.
pub(super) fn verifying() -> Result<ClientConfig, Failure> {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let config = configure(ServerCertificates::Verified(system_roots()?))?;
    Ok(CONFIG.get_or_init(|| config).clone())
}

/// The configuration that takes any certificate.
pub(super) fn trusting() -> Result<ClientConfig, Failure> {
    static CONFIG: LazyLock<Result<ClientConfig, Failure>> =
        LazyLock::new(|| configure(ServerCertificates::Any));
    CONFIG.clone()
}

/// What is wrong, for somebody who runs servers rather than knows rustls.
pub(super) fn explain(error: &rustls::Error) -> String {
    use rustls::Error;
    if let Error::InvalidCertificate(certificate) = error {
        return explain_certificate(certificate);
    }
    if let Error::AlertReceived(alert) = error {
        return format!("the server broke the TLS handshake off: {alert:?}");
    }
    if let Error::InvalidMessage(_) = error {
        return "the server does not speak TLS on this port".into();
    }
    if let Error::PeerIncompatible(what) = error {
        return format!("no TLS version or cipher in common: {what:?}");
    }
    error.to_string()
}

enum ServerCertificates {
    Verified(RootCertStore),
    Any,
}

fn configure(certificates: ServerCertificates) -> Result<ClientConfig, Failure> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    let builder = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Tls(error.to_string()))?;
    let mut config = match certificates {
        ServerCertificates::Verified(roots) => builder.with_root_certificates(roots),
        ServerCertificates::Any => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(PROVIDER.clone()))),
    }
    .with_no_client_auth();
    // A resumed session shows no certificate: one that has expired since would go on passing. And
    // tickets are kept by name, which many real servers share.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn system_roots() -> Result<RootCertStore, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found
            .errors
            .first()
            .map(|error| format!(" ({error})"))
            .unwrap_or_default();
        return Err(Failure::Tls(format!(
            "this machine has no root certificates to verify with: install ca-certificates or set \
             verify = false{why}"
        )));
    }
    Ok(roots)
}

/// Takes any certificate, and does not ask for the proof that the server owns it.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn explain_certificate(error: &CertificateError) -> String {
    if let CertificateError::Expired | CertificateError::ExpiredContext { .. } = error {
        return "certificate has expired".into();
    }
    if let CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } = error {
        return "certificate is not valid yet (or a clock is wrong)".into();
    }
    if let CertificateError::UnknownIssuer = error {
        return "certificate is signed by nobody this machine trusts (self-signed, a private CA, or \
                an intermediate that the server does not send)"
            .into();
    }
    if let CertificateError::NotValidForNameContext {
        expected,
        presented,
    } = error
    {
        let names = if presented.is_empty() {
            "no name at all (it has no subjectAltName)".into()
        } else {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            names.join(", ")
        };
        return format!(
            "certificate is not for {} but for {names}",
            expected.to_str()
        );
    }
    if let CertificateError::Other(other) = error
        // The verifier's own error type is not rustls' to name.
        && other.to_string() == "CaUsedAsEndEntity"
    {
        return "certificate is a CA's (CA:TRUE, as openssl makes self-signed ones) and cannot be a server's".into();
    }
    format!("certificate is not good: {error}")
}

/// `DnsName("web.test")` and `IpAddress(192.0.2.1)`, as rustls lists them, without the wrapping.
fn bare(presented: &str) -> &str {
    presented
        .split_once('(')
        .and_then(|(_kind, rest)| rest.strip_suffix(')'))
        .map_or(presented, |name| name.trim_matches('"'))
}
