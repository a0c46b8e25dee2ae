//! When a certificate ends, and whether that is soon.

use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

use crate::check::TlsSpec;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// How long before its end a certificate is worth a warning.
#[derive(Debug)]
pub(super) struct Expiry {
    within: Duration,
}

impl Expiry {
    pub(super) fn new(spec: &TlsSpec) -> Expiry {
        Expiry {
            within: spec.expires_within,
        }
    }

    pub(super) fn warning(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        if self.within.is_zero() {
            return None;
        }
        warning(
            UnixTime::now().as_secs(),
            not_after(certificate)?.as_secs(),
            self.within,
        )
    }
}

fn warning(now: u64, end: u64, within: Duration) -> Option<String> {
    let Some(left) = end.checked_sub(now) else {
        return Some(format!("certificate expired {} ago", span(now - end)));
    };
    (left < within.as_secs()).then(|| format!("certificate expires in {}", span(left)))
}

/// `13 days`, `5 hours`, `less than an hour`
fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..HOUR => return "less than an hour".into(),
        HOUR..DAY => (seconds / HOUR, "hour"),
        DAY.. => (seconds / DAY, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// The end of a certificate's validity, as rustls' own verifier reads it: asked about a time that no
/// certificate lasts to, it answers which end was passed.
fn not_after(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let never = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let roots = RootCertStore::empty();
    match verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], never, &[]) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(not_after)
        }
        Ok(()) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_about_from_the_day_on_that_the_check_names() {
        let day = |n: u64| 1_800_000_000 + n * DAY;
        let warn = |now, end| warning(now, end, Duration::from_secs(14 * DAY));
        assert_eq!(warn(day(0), day(14)), None);
        let soon = "certificate expires in 13 days";
        assert_eq!(warn(day(0) + 1, day(14)).as_deref(), Some(soon));
        let hours = "certificate expires in 1 hour";
        assert_eq!(warn(day(0), day(0) + HOUR).as_deref(), Some(hours));
        let last = "certificate expires in less than an hour";
        assert_eq!(warn(day(0), day(0)).as_deref(), Some(last));
        let past = "certificate expired 2 days ago";
        assert_eq!(warn(day(3), day(1)).as_deref(), Some(past));
    }
}
