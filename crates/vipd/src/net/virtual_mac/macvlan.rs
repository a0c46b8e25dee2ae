//! The links of the kernel as far as macvlans go, and the requests that make, change and remove one.

use std::io;
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoMacVlan, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};
use rtnetlink::{Handle, LinkMacVlan, LinkUnspec};

use super::VirtualMac;
use crate::net::addresses::{Failure, execute};
use crate::net::sys::Mac;

/// How long the kernel may take to list the links.
const DUMP_TIMEOUT: Duration = Duration::from_secs(10);
/// `IFLA_IFALIAS` of what vipd has made.
const ALIAS: &str = "vipd";

/// A link, as far as it matters here.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Option<Mac>,
    pub(super) alias: Option<String>,
    pub(super) macvlan: bool,
    pub(super) private: bool,
    pub(super) below: Option<u32>,
    /// Whether the kernel gives it a link-local address when it comes up.
    pub(super) link_local: bool,
    pub(super) up: bool,
}

impl Found {
    fn decode(message: &LinkMessage) -> Option<Found> {
        let mut found = Found {
            index: message.header.index,
            name: String::new(),
            mac: None,
            alias: None,
            macvlan: false,
            private: false,
            below: None,
            link_local: false,
            up: message.header.flags.contains(LinkFlags::Up),
        };
        for attribute in &message.attributes {
            #[allow(
                clippy::wildcard_enum_match_arm,
                reason = "other attributes do not matter here"
            )]
            match attribute {
                LinkAttribute::IfName(name) => found.name.clone_from(name),
                LinkAttribute::Address(bytes) => found.mac = Mac::try_from(bytes.as_slice()).ok(),
                LinkAttribute::IfAlias(alias) => found.alias = Some(alias.clone()),
                LinkAttribute::Link(below) => found.below = Some(*below),
                LinkAttribute::LinkInfo(infos) => {
                    found.macvlan = infos.contains(&LinkInfo::Kind(InfoKind::MacVlan));
                    found.private = infos.iter().any(is_private);
                }
                LinkAttribute::AfSpecUnspec(specs) => {
                    found.link_local = specs.iter().any(makes_address);
                }
                _ => {}
            }
        }
        (!found.name.is_empty()).then_some(found)
    }

    /// Made by vipd, whatever for.
    pub(super) fn is_ours(&self) -> bool {
        let is_virtual = matches!(self.mac, Some([0, 0, 0x5e, 0, 1 | 2, _]));
        self.macvlan && is_virtual && self.alias.as_deref() == Some(ALIAS)
    }

    /// So much like what is wanted that it cannot be anybody else's.
    pub(super) fn is_named_and_addressed(&self, wanted: &VirtualMac) -> bool {
        self.macvlan && self.name == wanted.name && self.mac == Some(wanted.mac())
    }

    /// As wanted but for what can be changed while it is there.
    pub(super) fn is_right(&self, wanted: &VirtualMac, found: &[Found]) -> bool {
        let below = found.iter().find(|link| link.name == wanted.interface);
        self.is_named_and_addressed(wanted)
            && self.private
            && self.below.is_some()
            && self.below == below.map(|link| link.index)
            // One that was up without it has an address that the mode does not take away.
            && !(self.link_local && self.up)
    }
}

fn is_private(info: &LinkInfo) -> bool {
    let LinkInfo::Data(InfoData::MacVlan(data)) = info else {
        return false;
    };
    data.contains(&InfoMacVlan::Mode(MacVlanMode::Private))
}

fn makes_address(spec: &AfSpecUnspec) -> bool {
    let AfSpecUnspec::Inet6(values) = spec else {
        return false;
    };
    !values.contains(&AfSpecInet6::AddrGenMode(In6AddrGenMode::None))
}

pub(super) fn name_of(found: &[Found], index: u32) -> Option<String> {
    let link = found.iter().find(|link| link.index == index)?;
    Some(link.name.clone())
}

pub(super) fn connect() -> io::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

pub(super) async fn dump(handle: &Handle) -> Result<Vec<Found>, Failure> {
    read_links(handle.link().get()).await
}

async fn read_links(request: rtnetlink::LinkGetRequest) -> Result<Vec<Found>, Failure> {
    let read = request.execute().try_collect::<Vec<_>>();
    match tokio::time::timeout(DUMP_TIMEOUT, read).await {
        Ok(Ok(messages)) => Ok(messages.iter().filter_map(Found::decode).collect()),
        Ok(Err(error)) => Err(Failure::Broken(error.to_string())),
        Err(_) => Err(Failure::Broken("no answer from rtnetlink".to_owned())),
    }
}

pub(super) async fn create(
    handle: &Handle,
    mac: &VirtualMac,
    below: u32,
) -> Result<Found, Failure> {
    let message = LinkMacVlan::new(&mac.name, below, MacVlanMode::Private)
        .address(mac.mac().to_vec())
        .build();
    execute(handle.link().add(message).execute(), &[]).await?;
    let found = read_links(handle.link().get().match_name(mac.name.clone())).await?;
    let gone = || Failure::Refused("somebody deleted it at once".to_owned());
    found.into_iter().next().ok_or_else(gone)
}

/// In a message of its own, before it is up: in the same one the kernel makes an address all the same.
pub(super) async fn mark(handle: &Handle, link: &Found) -> Result<(), Failure> {
    let mut message = LinkUnspec::new_with_index(link.index).alias(ALIAS).build();
    if link.link_local {
        let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let specs = vec![AfSpecUnspec::Inet6(vec![none])];
        message.attributes.push(LinkAttribute::AfSpecUnspec(specs));
    }
    execute(handle.link().set(message).execute(), &[]).await
}

pub(super) async fn switch(handle: &Handle, index: u32, up: bool) -> Result<(), Failure> {
    let link = LinkUnspec::new_with_index(index);
    let message = if up { link.up() } else { link.down() }.build();
    execute(handle.link().set(message).execute(), &[]).await
}

pub(super) async fn delete(handle: &Handle, index: u32) -> Result<(), Failure> {
    execute(handle.link().del(index).execute(), &[libc::ENODEV]).await
}
