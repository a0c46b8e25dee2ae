//! `POST /v1/virtual_servers/NAME/real_servers/ADDRESS`: drain, disable, enable, weight.

use std::net::{IpAddr, SocketAddr};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::server::{ANSWER_TIMEOUT, Api, Done, Refusal};
use crate::director_loop::{RealServerOrder, Wake};
use crate::overrides::Change;
use crate::status::{Status, VirtualServerStatus};

/// The kernel refuses a weight that is negative as an `int`.
const WEIGHT_MAX: u32 = i32::MAX.unsigned_abs();

/// The body of the request.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What to do.
    pub change: Change,
    /// Also where nobody would be left to serve.
    #[serde(default)]
    pub force: bool,
}

/// Why a name fits no real server, or more than one. The code is for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotOne {
    /// `unknown_virtual_server`, `unknown_real_server` or `ambiguous`.
    pub code: &'static str,
    /// In words, with what there is.
    pub message: String,
}

pub(super) async fn order(
    State(api): State<Api>,
    Path((name, address)): Path<(String, String)>,
    order: Result<Json<Order>, JsonRejection>,
) -> Result<Json<Done>, Refusal> {
    let Json(order) = order.map_err(|why| Refusal::bad_request(&why.body_text()))?;
    if let Change::Weight(weight) = order.change
        && weight > WEIGHT_MAX
    {
        let why = format!("weight {weight} is out of range: 0 to {WEIGHT_MAX}");
        return Err(Refusal::bad_request(&why));
    }
    let status = api.ask(ANSWER_TIMEOUT, Wake::Status).await?;
    let real_server = find(&status, &name, &address).map_err(|why| {
        let status = match why.code {
            "ambiguous" => StatusCode::CONFLICT,
            _ => StatusCode::NOT_FOUND,
        };
        Refusal::new(status, why.code, why.message)
    })?;
    api.order(ANSWER_TIMEOUT, |reply| Wake::RealServer {
        order: RealServerOrder {
            virtual_server: name,
            real_server,
            change: order.change,
            force: order.force,
        },
        reply,
    })
    .await
}

/// The one real server of a virtual server that is meant by an address with or without a port, as
/// `status` names it.
///
/// # Errors
///
/// There is none, or more than one.
pub fn find(status: &Status, name: &str, address: &str) -> Result<String, NotOne> {
    let server = virtual_server(status, name)?;
    match fitting(server, address).as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => {
            let all = server.real_servers.iter().map(|real| real.address.as_str());
            let all: Vec<&str> = all.collect();
            let message = match all.as_slice() {
                [] => format!("{name} has no real servers"),
                all => format!(
                    "{name} has no real server {address}; known: {}",
                    all.join(", ")
                ),
            };
            Err(NotOne {
                code: "unknown_real_server",
                message,
            })
        }
        many => Err(NotOne {
            code: "ambiguous",
            message: format!(
                "{name} has more than one real server {address}: {}",
                many.join(", ")
            ),
        }),
    }
}

/// The virtual server of that name.
pub(super) fn virtual_server<'a>(
    status: &'a Status,
    name: &str,
) -> Result<&'a VirtualServerStatus, NotOne> {
    let mut servers = status.virtual_servers.iter();
    servers.find(|known| known.name == name).ok_or_else(|| {
        let known = status.virtual_servers.iter();
        let known: Vec<&str> = known.map(|known| known.name.as_str()).collect();
        let message = match known.as_slice() {
            [] => "this director has no virtual servers".to_owned(),
            known => format!(
                "there is no virtual server {name}; known: {}",
                known.join(", ")
            ),
        };
        NotOne {
            code: "unknown_virtual_server",
            message,
        }
    })
}

fn fitting<'a>(server: &'a VirtualServerStatus, address: &str) -> Vec<&'a str> {
    let wanted = parts(address);
    let fits = |known: &&str| {
        *known == address
            || parts(known).zip(wanted).is_some_and(|(known, wanted)| {
                known.0 == wanted.0 && (wanted.1.is_none() || wanted.1 == known.1)
            })
    };
    let all = server.real_servers.iter().map(|real| real.address.as_str());
    all.filter(fits).collect()
}

/// An address, and its port if it has one.
fn parts(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip(), Some(address.port())));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse().ok().map(|ip| (ip, None))
}
