//! What the other directors say of themselves, where their HTTP listener can be reached: its address is
//! the director's, its port the one of this configuration.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use reqwest::redirect;
use tokio::time::Instant;

use super::plan::configured_peers;
use crate::config::Config;
use crate::status::Status;

/// How long a director may take.
const LIMIT: Duration = Duration::from_millis(1500);
/// Whoever sends adverts counts as a director: so many of them are asked.
const ASKED_MAX: usize = 16;
/// The longest answer; 10,000 real servers need less.
const ANSWER_MAX: usize = 64 << 20;

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

/// Asks them at once, those of the configuration before those that are only heard. Who does not answer is left
/// out: the listener is no duty. Who takes a connection and says nothing is told.
pub(super) async fn look(
    config: &Config,
    addresses: &BTreeSet<IpAddr>,
    until: Instant,
) -> (Vec<Peer>, Vec<String>) {
    let Some(port) = config.global.http.map(|http| http.port()) else {
        return (Vec::new(), Vec::new());
    };
    let configured = configured_peers(config);
    let (mut asked, heard): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|it| configured.contains(it));
    asked.extend(heard);
    let until = until.min(Instant::now() + LIMIT);
    let answers = asked.iter().take(ASKED_MAX).map(|address| async move {
        let asking = ask(*address, port);
        match tokio::time::timeout_at(until, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(format!(
                "{}: no answer in time from the HTTP listener of another director",
                SocketAddr::new(*address, port)
            )),
        }
    });
    let (mut peers, mut unknown) = (Vec::new(), Vec::new());
    for answer in join_all(answers).await {
        match answer {
            Ok(peer) => peers.extend(peer),
            Err(why) => unknown.push(why),
        }
    }
    if asked.len() > ASKED_MAX {
        unknown.push(format!(
            "other directors: {} send adverts or are configured, and {ASKED_MAX} of them were asked",
            asked.len()
        ));
    }
    (peers, unknown)
}

/// `None`: there is no listener.
async fn ask(address: IpAddr, port: u16) -> Result<Option<Peer>, String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        // Whoever sends adverts may answer: it does not choose what else is asked.
        .redirect(redirect::Policy::none())
        // Nothing is encrypted; the system's certificates need not be read.
        .tls_certs_only([])
        .build()
        .map_err(|error| format!("the HTTP client: {error}"))?;
    let server = SocketAddr::new(address, port);
    let url = format!("http://{server}/v1/status");
    let Ok(mut answer) = client.get(url).send().await else {
        return Ok(None);
    };
    let now = SystemTime::now();
    let date = answer.headers().get("date");
    let date = date.and_then(|date| clock(date.to_str().ok()?, now));
    let mut text = Vec::new();
    while let Ok(Some(part)) = answer.chunk().await {
        if text.len() + part.len() > ANSWER_MAX {
            return Err(format!("{server}: its answer has no end"));
        }
        text.extend_from_slice(&part);
    }
    let status = serde_json::from_slice(&text).ok();
    Ok(status.map(|status| Peer {
        address,
        status,
        clock: date,
    }))
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

    fn config(http: SocketAddr) -> Config {
        Config::parse(&format!("[global]\nhttp = \"{http}\"\n"), "test").unwrap()
    }

    #[tokio::test]
    async fn one_that_takes_connections_and_says_nothing_is_named_in_time() {
        let _there = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = silent.local_addr().unwrap();
        let until = Instant::now() + Duration::from_millis(200);
        let (peers, unknown) = look(&config(at), &BTreeSet::from([at.ip()]), until).await;
        assert_eq!(peers, []);
        assert!(
            unknown[0].starts_with(&format!("{at}: no answer in time")),
            "{unknown:?}"
        );
        assert!(until.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn of_a_thousand_who_send_adverts_a_few_are_asked() {
        let _there = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = nobody.local_addr().unwrap();
        drop(nobody);
        let many = (0..1000).map(|n| IpAddr::from(std::net::Ipv4Addr::from_bits(0x7f00_0100 + n)));
        let until = Instant::now() + Duration::from_secs(30);
        let (peers, unknown) = look(&config(at), &many.collect(), until).await;
        assert_eq!(peers, []);
        assert_eq!(unknown.len(), 1, "{unknown:?}");
        assert!(unknown[0].contains("1000 send adverts"), "{unknown:?}");
    }
}
