//! The ports at which the kernel takes in Generic UDP Encapsulation (ip-fou(8)): the generic netlink family
//! `fou`.

use std::collections::BTreeSet;
use std::fmt::Debug;

use neli::consts::nl::NlmF;
use neli::consts::socket::NlFamily;
use neli::err::RouterError;
use neli::genl::{AttrTypeBuilder, Genlmsghdr, GenlmsghdrBuilder, NlattrBuilder, NoUserHeader};
use neli::nl::NlPayload;
use neli::router::synchronous::{NlRouter, NlRouterReceiverHandle};
use neli::types::{Buffer, GenlBuffer};
use neli::utils::Groups;

const FAMILY: &str = "fou";
const VERSION: u8 = 1;

// `FOU_CMD_*`
const ADD: u8 = 1;
const DELETE: u8 = 2;
const GET: u8 = 3;
// `FOU_ATTR_*`
const PORT: u16 = 1;
const ADDRESS_FAMILY: u16 = 2;
const TYPE: u16 = 4;
/// `FOU_ENCAP_GUE`
const GUE: u8 = 2;

type Message = Genlmsghdr<u8, u16>;
type Answers = NlRouterReceiverHandle<u16, Message>;

/// Those that are open: whether over IPv6, and which port.
pub(super) fn ports() -> Result<BTreeSet<(bool, u16)>, String> {
    let mut ports = BTreeSet::new();
    let (_router, answers) = ask(GET, NlmF::DUMP, &[])?;
    for answer in answers {
        let answer = answer.map_err(|error| words(&error))?;
        let Some(message) = answer.get_payload() else {
            continue;
        };
        let (mut port, mut family, mut kind) = (None, None, None);
        for attribute in message.attrs().iter() {
            let bytes: &[u8] = attribute.nla_payload().as_ref();
            match (*attribute.nla_type().nla_type(), bytes) {
                (PORT, [high, low, ..]) => port = Some(u16::from_be_bytes([*high, *low])),
                (ADDRESS_FAMILY, [value, ..]) => family = Some(*value),
                (TYPE, [value, ..]) => kind = Some(*value),
                (_, _) => {}
            }
        }
        if let (Some(port), Some(family), Some(GUE)) = (port, family, kind) {
            ports.insert((family == number(true), port));
        }
    }
    Ok(ports)
}

/// Opens one.
pub(super) fn open(ipv6: bool, port: u16) -> Result<(), String> {
    change(ADD, ipv6, port)
}

/// Closes one; one that is closed is no failure.
pub(super) fn close(ipv6: bool, port: u16) -> Result<(), String> {
    if !ports()?.contains(&(ipv6, port)) {
        return Ok(());
    }
    change(DELETE, ipv6, port)
}

fn change(command: u8, ipv6: bool, port: u16) -> Result<(), String> {
    let attributes = [
        (PORT, port.to_be_bytes().to_vec()),
        (ADDRESS_FAMILY, vec![number(ipv6)]),
        (TYPE, vec![GUE]),
    ];
    let (_router, answers) = ask(command, NlmF::ACK, &attributes)?;
    for answer in answers {
        answer.map_err(|error| words(&error))?;
    }
    Ok(())
}

fn number(ipv6: bool) -> u8 {
    let number = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    u8::try_from(number).unwrap_or_default()
}

/// The answers last as long as the router.
fn ask(
    command: u8,
    flags: NlmF,
    attributes: &[(u16, Vec<u8>)],
) -> Result<(NlRouter, Answers), String> {
    let connected = NlRouter::connect(NlFamily::Generic, None, Groups::empty());
    let (router, _) = connected.map_err(|error| error.to_string())?;
    let family = router.resolve_genl_family(FAMILY);
    let family = family
        .map_err(|error| format!("the kernel has no module `fou` for GUE: {}", words(&error)))?;
    let mut buffer = GenlBuffer::<u16, Buffer>::new();
    for (kind, value) in attributes {
        let kind = AttrTypeBuilder::default().nla_type(*kind).build();
        let kind = kind.map_err(|error| error.to_string())?;
        let attribute = NlattrBuilder::default()
            .nla_type(kind)
            .nla_payload(value.as_slice());
        buffer.push(attribute.build().map_err(|error| error.to_string())?);
    }
    let message = GenlmsghdrBuilder::<u8, u16, NoUserHeader>::default()
        .cmd(command)
        .version(VERSION)
        .attrs(buffer)
        .build()
        .map_err(|error| error.to_string())?;
    let sent = router.send::<_, _, u16, Message>(
        family,
        NlmF::REQUEST | flags,
        NlPayload::Payload(message),
    );
    let answers = sent.map_err(|error| words(&error))?;
    Ok((router, answers))
}

/// What the kernel said, where it said something.
fn words<T: Debug, P: Debug>(error: &RouterError<T, P>) -> String {
    match error {
        RouterError::Nlmsgerr(said) => {
            let number = said.error().saturating_abs();
            std::io::Error::from_raw_os_error(number).to_string()
        }
        RouterError::Msg(_)
        | RouterError::Io(_)
        | RouterError::De(_)
        | RouterError::Socket(_)
        | RouterError::BadSeqOrPid(_)
        | RouterError::NoAck
        | RouterError::UnexpectedAck
        | RouterError::ClosedChannel => error.to_string(),
    }
}
