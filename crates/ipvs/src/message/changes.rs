//! Changes of the table as messages, one behind the other, to be sent at once.

use std::ops::Range;

use neli::consts::nl::NlmF;
use netlink_packet_core::NetlinkBuffer;

use super::writer::Writer;
use super::{
    EncodeError, attribute, check_names, command, destination_key, destination_settings,
    service_key, service_settings,
};
use crate::diff::Change;
use crate::table::{Destination, ServiceKey};

/// Messages that change the kernel's table. Without [`Changes::acknowledge`] the kernel answers only what it
/// refuses.
#[derive(Debug, Clone)]
pub struct Changes {
    family: u16,
    bytes: Vec<u8>,
    /// Where the last message begins.
    last: Option<usize>,
    /// Where the service of the last destination stands, and its settings: those of the next are mostly the
    /// same, and are copied.
    service: Option<(ServiceKey, Range<usize>)>,
    settings: Option<(Destination, Range<usize>)>,
}

impl Changes {
    /// None yet; `family` is the kernel's number for IPVS.
    #[must_use]
    pub fn new(family: u16) -> Changes {
        Changes {
            family,
            bytes: Vec::new(),
            last: None,
            service: None,
            settings: None,
        }
    }

    /// Adds a message.
    ///
    /// # Errors
    ///
    /// The scheduler or the persistence engine has an impossible name; nothing is added.
    pub fn add(&mut self, sequence: u32, change: &Change) -> Result<(), EncodeError> {
        let command = match change {
            Change::AddService(..) => command::NEW_SERVICE,
            Change::SetService(..) => command::SET_SERVICE,
            Change::RemoveService(_) => command::DEL_SERVICE,
            Change::AddDestination(..) => command::NEW_DESTINATION,
            Change::SetDestination(..) => command::SET_DESTINATION,
            Change::RemoveDestination(..) => command::DEL_DESTINATION,
        };
        if let Change::AddService(_, service) | Change::SetService(_, service) = change {
            check_names(service)?;
        }
        let begin = self.bytes.len();
        let none = NlmF::empty();
        let mut message = Writer::begin(&mut self.bytes, self.family, none, sequence, command)?;
        match change {
            Change::AddService(key, service) | Change::SetService(key, service) => {
                message.nest(attribute::SERVICE, |nest| {
                    service_key(nest, key);
                    service_settings(nest, key.family(), service);
                });
            }
            Change::RemoveService(key) => {
                message.nest(attribute::SERVICE, |nest| service_key(nest, key));
            }
            Change::AddDestination(key, server, settings)
            | Change::SetDestination(key, server, settings) => {
                of_service(&mut message, key, &mut self.service);
                message.nest(attribute::DESTINATION, |nest| {
                    destination_key(nest, server);
                    repeated(nest, settings, &mut self.settings, destination_settings);
                });
            }
            Change::RemoveDestination(key, server) => {
                of_service(&mut message, key, &mut self.service);
                message.nest(attribute::DESTINATION, |nest| destination_key(nest, server));
            }
        }
        message.finish();
        self.last = Some(begin);
        Ok(())
    }

    /// Has the kernel answer the last one, also when it is done.
    pub fn acknowledge(&mut self) {
        let last = self.last.and_then(|begin| self.bytes.get_mut(begin..));
        if let Some(message) = last {
            let mut header = NetlinkBuffer::new(message);
            header.set_flags(header.flags() | NlmF::ACK.bits());
        }
    }

    /// All of them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn of_service(
    message: &mut Writer<'_>,
    key: &ServiceKey,
    known: &mut Option<(ServiceKey, Range<usize>)>,
) {
    repeated(message, key, known, |message, key| {
        message.nest(attribute::SERVICE, |nest| service_key(nest, key));
    });
}

/// Writes a value, or copies it from where it stands.
fn repeated<T: PartialEq + Clone>(
    message: &mut Writer<'_>,
    value: &T,
    known: &mut Option<(T, Range<usize>)>,
    write: impl FnOnce(&mut Writer<'_>, &T),
) {
    match known {
        Some((before, place)) if before == value => message.again(place.clone()),
        Some(_) | None => {
            let place = message.part(|message| write(message, value));
            *known = Some((value.clone(), place));
        }
    }
}
