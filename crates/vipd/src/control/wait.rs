//! `--wait`: looks at a real server again and again until an order has come to its end.

use std::path::Path;
use std::time::Duration;

use super::client;
use crate::status::{RealServerStatus, Status};

/// How often the real server is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is draining and has no connections any more that matter.
    Drained,
    /// It is not in the kernel's table.
    Gone,
    /// It gets new connections.
    Serving,
}

/// Waits; says in words how far it is whenever that changes. A daemon that is restarted is waited for.
///
/// # Errors
///
/// The end cannot come any more: somebody ordered otherwise, or the real server is not configured.
pub async fn until(
    socket: &Path,
    virtual_server: &str,
    real_server: &str,
    end: End,
    say: &mut dyn FnMut(&str),
) -> Result<(), String> {
    let mut last = String::new();
    loop {
        let words = match client::status(socket).await {
            Ok(status) => match look(&status, virtual_server, real_server, end)? {
                Some(words) => words,
                None => return Ok(()),
            },
            Err(why) => format!("{why}; waiting for it"),
        };
        if words != last {
            say(&words);
            last = words;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How far it is; `None`: at the end.
///
/// # Errors
///
/// As [`until`].
pub fn look(
    status: &Status,
    virtual_server: &str,
    real_server: &str,
    end: End,
) -> Result<Option<String>, String> {
    let object = format!("{virtual_server}/{real_server}");
    let found = super::real_servers::find(status, virtual_server, real_server)
        .map_err(|why| format!("{object}: {}", why.message))?;
    let servers = &mut status.virtual_servers.iter();
    let server = servers.find(|server| server.name == virtual_server);
    let real = server.and_then(|server| server.real_servers.iter().find(|r| r.address == found));
    let Some((server, real)) = server.zip(real) else {
        return Err(format!("{object} is not configured any more"));
    };
    let wanted_state = match end {
        End::Drained => real.state == "draining",
        End::Gone => real.state == "disabled",
        End::Serving => real.state != "draining" && real.state != "disabled",
    };
    if !wanted_state {
        return Err(format!(
            "{object} is {} now: somebody ordered otherwise",
            real.state
        ));
    }
    let stale = "the kernel has not taken it in yet".to_owned();
    let left = match end {
        End::Drained if real.weight.effective > 0 => Some(stale),
        End::Drained => match connections(&server.protocol, real) {
            0 => None,
            1 => Some("1 connection is left".to_owned()),
            many => Some(format!("{many} connections are left")),
        },
        End::Gone => (real.weight.effective > 0).then_some(stale),
        End::Serving if real.weight.effective > 0 => None,
        End::Serving => Some(match real.state.as_str() {
            "up" => "it passes its checks, and gets no connections yet".to_owned(),
            state => format!("it is {state}"),
        }),
    };
    Ok(left.map(|left| format!("{object}: {left}")))
}

/// The connections that a drain waits for. Of TCP and SCTP the inactive ones are closed on the
/// client's side and only remembered for stray packets; of UDP there are no others.
fn connections(protocol: &str, real: &RealServerStatus) -> u64 {
    let (active, inactive) = (
        u64::from(real.connections.active),
        u64::from(real.connections.inactive),
    );
    match protocol {
        "tcp" | "sctp" => active,
        _ => active + inactive,
    }
}
