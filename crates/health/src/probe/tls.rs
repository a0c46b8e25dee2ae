//! TLS for the probes: the client configuration of each policy (the common ones shared by all
//! checks), the handshake, and rustls' errors in an operator's words.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, LazyLock, OnceLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::expiry::Expiry;
use super::explain;
use super::stream::Stream;
use crate::check::{Identity, TlsSpec};
use crate::failure::Failure;

/// A check's side of the handshake.
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    expiry: Expiry,
}

impl Tls {
    /// `name` is sent (where it is no address) and verified; `protocols` are offered (ALPN).
    pub(super) fn new(spec: &TlsSpec, name: &str, protocols: &[&[u8]]) -> Result<Tls, Failure> {
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(config(spec, protocols)?)),
            name: ServerName::try_from(name.to_owned())
                .map_err(|_| Failure::Invalid(format!("{name:?} is not a server name")))?,
            expiry: Expiry::new(spec),
        })
    }

    pub(super) async fn handshake(&self, stream: Stream) -> Result<TlsStream<Stream>, Failure> {
        let handshake = self.connector.connect(self.name.clone(), stream).await;
        handshake.map_err(|error| explain::explain(&error))
    }

    /// What there is to say of the certificate that the server showed.
    pub(super) fn warning_of(&self, stream: &TlsStream<Stream>) -> Option<String> {
        let (_, connection) = stream.get_ref();
        self.expiry
            .warning(connection.peer_certificates()?.first()?)
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({:?})", self.name)
    }
}

/// The name for TLS where no other protocol has one: `sni`, or else the address.
pub(super) fn name(target: SocketAddr, spec: &TlsSpec) -> String {
    match &spec.sni {
        Some(name) => name.clone(),
        None => target.ip().to_string(),
    }
}

/// The configuration of a policy.
pub(super) fn config(spec: &TlsSpec, protocols: &[&[u8]]) -> Result<ClientConfig, Failure> {
    let mut config = match (spec.verify, &spec.ca, &spec.identity) {
        (true, None, None) => verifying()?,
        (false, _, None) => trusting()?,
        (true, None, identity) => configure(
            ServerCertificates::Verified(system_roots()?),
            identity.as_ref(),
        )?,
        (true, Some(ca), identity) => configure(
            ServerCertificates::Verified(own_roots(ca)?),
            identity.as_ref(),
        )?,
        (false, _, identity) => configure(ServerCertificates::Any, identity.as_ref())?,
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// The configuration that takes any certificate.
pub(super) fn trusting() -> Result<ClientConfig, Failure> {
    static CONFIG: LazyLock<Result<ClientConfig, Failure>> =
        LazyLock::new(|| configure(ServerCertificates::Any, None));
    CONFIG.clone()
}

/// The configuration that verifies certificates with the roots of this system.
fn verifying() -> Result<ClientConfig, Failure> {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let config = configure(ServerCertificates::Verified(system_roots()?), None)?;
    Ok(CONFIG.get_or_init(|| config).clone())
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
    Verified(Arc<RootCertStore>),
    Any,
}

fn configure(
    certificates: ServerCertificates,
    identity: Option<&Identity>,
) -> Result<ClientConfig, Failure> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    let builder = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Tls(error.to_string()))?;
    let builder = match certificates {
        ServerCertificates::Verified(roots) => builder.with_root_certificates(roots),
        ServerCertificates::Any => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(PROVIDER.clone()))),
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = read_identity(identity)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                Failure::Invalid(format!(
                    "certificate {} with key {}: {error}",
                    identity.certificate.display(),
                    identity.key.display()
                ))
            })?
        }
    };
    // A resumed session shows no certificate: one that has expired since would go on passing. And
    // tickets are kept by name, which many real servers share.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The roots of this system. They are read at the first use and kept; without any, each use looks
/// again.
fn system_roots() -> Result<Arc<RootCertStore>, Failure> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
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
    Ok(ROOTS.get_or_init(|| Arc::new(roots)).clone())
}

/// The roots of a check's own file.
fn own_roots(file: &Path) -> Result<Arc<RootCertStore>, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates("ca", file)? {
        roots
            .add(certificate)
            .map_err(|error| of_file("ca", file, &error))?;
    }
    Ok(Arc::new(roots))
}

fn read_identity(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Failure> {
    let chain = read_certificates("certificate", &identity.certificate)?;
    let pem = read("key", &identity.key)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        if let rustls::pki_types::pem::Error::NoItemsFound = error {
            return of_file("key", &identity.key, &"there is no private key in it");
        }
        of_file("key", &identity.key, &error)
    })?;
    Ok((chain, key))
}

/// At least one.
fn read_certificates(what: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = read(what, file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| of_file(what, file, &error))?;
    if certificates.is_empty() {
        return Err(of_file(what, file, &"there is no certificate in it"));
    }
    Ok(certificates)
}

fn read(what: &str, file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| of_file(what, file, &error))
}

fn of_file(what: &str, file: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::Invalid(format!("{what} {}: {why}", file.display()))
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

/// `DnsName("web.test")` and `IpAddress(0::1)`, as rustls lists them, without the wrapping and as
/// people write it.
fn bare(presented: &str) -> String {
    let name = presented
        .split_once('(')
        .and_then(|(_kind, rest)| rest.strip_suffix(')'))
        .map_or(presented, |name| name.trim_matches('"'));
    match name.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_name) => name.to_owned(),
    }
}
