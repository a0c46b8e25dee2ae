//! What the other directors say of themselves, where their HTTP listener can be reached: its address is
//! the director's, its port the one of this configuration.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;

use crate::config::Config;
use crate::status::Status;

/// How long a director may take.
const LIMIT: Duration = Duration::from_millis(1500);

/// Another director.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Its status.
    pub status: Status,
    /// By how many seconds its clock is ahead.
    pub clock: Option<i64>,
}

/// Asks all of them at once. Those that do not answer are left out: the listener is no duty.
pub(super) async fn look(config: &Config, addresses: &BTreeSet<IpAddr>) -> Vec<Peer> {
    let Some(port) = config.global.http.map(|http| http.port()) else {
        return Vec::new();
    };
    let ask = addresses.iter().map(|address| ask(*address, port));
    join_all(ask).await.into_iter().flatten().collect()
}

async fn ask(address: IpAddr, port: u16) -> Option<Peer> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(LIMIT)
        // Nothing is encrypted; the system's certificates need not be read.
        .tls_certs_only([])
        .build()
        .ok()?;
    let url = format!("http://{}/v1/status", SocketAddr::new(address, port));
    let answer = client.get(url).send().await.ok()?;
    let now = SystemTime::now();
    let date = answer.headers().get("date");
    let date = date.and_then(|date| clock(date.to_str().ok()?, now));
    let text = answer.text().await.ok()?;
    Some(Peer {
        address,
        status: serde_json::from_str(&text).ok()?,
        clock: date,
    })
}

/// By how many seconds a date of HTTP (RFC 9110 §5.6.7) is ahead of `now`.
fn clock(date: &str, now: SystemTime) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = date.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = words.as_slice() else {
        return None;
    };
    let month = MONTHS.iter().position(|known| known == month)? + 1;
    let rfc3339 = format!("{year}-{month:02}-{day}T{time}Z");
    let then = humantime::parse_rfc3339(&rfc3339).ok()?;
    let seconds = |at: SystemTime| {
        let since = at.duration_since(UNIX_EPOCH).ok()?.as_secs();
        i64::try_from(since).ok()
    };
    Some(seconds(then)? - seconds(now)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_http_is_compared_with_the_own_clock() {
        let now = humantime::parse_rfc3339("2027-01-15T09:00:10Z").unwrap();
        assert_eq!(clock("Fri, 15 Jan 2027 09:00:00 GMT", now), Some(-10));
        assert_eq!(clock("Fri, 15 Jan 2027 10:00:10 GMT", now), Some(3600));
        assert_eq!(clock("yesterday", now), None);
    }
}
