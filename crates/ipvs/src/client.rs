//! The one place that talks to the kernel: a blocking netlink socket.

mod modules;
mod settings;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
    sockopt,
};
use thiserror::Error;

use crate::diff::Change;
use crate::message::{self, Body, Changes, DecodeError, EncodeError, Info, Reply};
use crate::refused::Refused;
use crate::table::{Destination, DestinationKey, Dump, Pool, ServiceKey};

/// How many changes go to the kernel at once. More gain nothing (measured), and the refusals of
/// all of them must fit into the receive buffer.
const BATCH: usize = 256;
/// The kernel works a request off while it is sent, so an answer that is not there at once is lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Room for the refusals of a whole batch, bytes.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The kernel makes no datagram of a dump larger than 32 KiB.
const DATAGRAM: usize = 64 << 10;
/// How often a dump that was disturbed begins anew.
const DUMP_ATTEMPTS: usize = 5;

/// The kernel's IPVS, in the network namespace of the thread that opened it.
///
/// Every call blocks for as long as the kernel takes; nothing blocks for ever. After an [`enum@Error`]
/// other than [`Error::Kernel`] open a new one.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    /// The number of the family `IPVS`, given by this kernel.
    family: u16,
    /// Of the next request.
    sequence: u32,
    datagram: Vec<u8>,
}

/// Why the kernel's IPVS cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// There is none.
    #[error(
        "the running kernel has no IPVS: load it with `modprobe ip_vs`; where there is no such \
         module, the kernel was built without CONFIG_IP_VS, and another one is needed"
    )]
    NoIpvs,
    /// There is, but not for this process.
    #[error(
        "not permitted to use the kernel's IPVS: CAP_NET_ADMIN is needed in this network namespace \
         (root has it; a systemd unit gets it by AmbientCapabilities=CAP_NET_ADMIN)"
    )]
    NotPermitted,
    /// Anything else.
    #[error("cannot open the kernel's IPVS: {0}")]
    Failed(#[source] Error),
}

/// Why there is no answer of the kernel's.
#[derive(Debug, Error)]
pub enum Error {
    /// The socket failed.
    #[error("netlink socket: {0}")]
    Socket(#[source] std::io::Error),
    /// The kernel did not answer in time.
    #[error("the kernel did not answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent,
    /// There were more answers than the receive buffer holds.
    #[error("answers of the kernel were lost: they did not fit into the socket's buffer")]
    Lost,
    /// The kernel answered with an errno.
    #[error("the kernel refused: {0}")]
    Kernel(#[source] std::io::Error),
    /// Something changed with every attempt.
    #[error("the table changed {DUMP_ATTEMPTS} times while it was read")]
    Interrupted,
    /// The kernel's answer makes no sense.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The kernel refused what was asked of an object that is no service.
    #[error("{object}: {reason}")]
    Refused {
        /// What it is about.
        object: String,
        /// What the errno means for it.
        reason: String,
        /// The errno.
        errno: i32,
    },
    /// The request has no form.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl Client {
    /// Opens the kernel's IPVS in the network namespace of this thread, and has `modprobe` load the
    /// module if the kernel lacks it.
    ///
    /// # Errors
    ///
    /// The kernel has no IPVS, or this process may not use it.
    pub fn open() -> Result<Client, OpenError> {
        match Client::open_loaded() {
            Err(OpenError::NoIpvs) if modules::load_ipvs() => Client::open_loaded(),
            done => done,
        }
    }

    fn open_loaded() -> Result<Client, OpenError> {
        let mut client = Client::connect().map_err(OpenError::Failed)?;
        client.family = client
            .resolve_family()
            .map_err(|error| match errno(&error) {
                Some(Errno::NOENT) => OpenError::NoIpvs,
                Some(_) | None => OpenError::Failed(error),
            })?;
        // Everybody may ask for the family; this is the first question that needs the capability.
        client.info().map_err(|error| match errno(&error) {
            Some(Errno::PERM) => OpenError::NotPermitted,
            Some(_) | None => OpenError::Failed(error),
        })?;
        Ok(client)
    }

    /// What IPVS says of itself.
    ///
    /// # Errors
    ///
    /// The kernel gave no answer.
    pub fn info(&mut self) -> Result<Info, Error> {
        let sequence = self.take_sequences(1);
        let request = message::get_info(self.family, sequence)?;
        let mut info = None;
        self.ask(&request, sequence, |answer| {
            info = Some(message::info_from(answer)?);
            Ok(())
        })?;
        info.ok_or(Error::Decode(DecodeError::Missing("itself")))
    }

    /// The whole table, with its counters.
    ///
    /// The kernel lists services and the destinations of each one after the other, and others may
    /// change them between: a service that goes meanwhile is left out, or has no destinations. A
    /// change made on the ground of a dump can therefore be refused; the answer to that is a new
    /// dump.
    ///
    /// # Errors
    ///
    /// The kernel gave no answer, or none that makes sense.
    pub fn dump(&mut self) -> Result<Dump, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            match self.dump_once() {
                Err(Error::Interrupted | Error::Lost) => {}
                done => return done,
            }
        }
        Err(Error::Interrupted)
    }

    /// Makes changes, in order; one that is refused does not keep the others from being made. The
    /// result has one entry for each change, in the same order.
    ///
    /// Where the kernel's answers are lost (`ENOBUFS`, `ETIMEDOUT`), those changes of whose fate
    /// nothing is known count as refused: the caller must dump the table to know.
    ///
    /// Schedulers that the kernel has not loaded are loaded before, by `modprobe` where that is allowed.
    pub fn apply(&mut self, changes: &[Change]) -> Vec<Result<(), Refused>> {
        modules::load_for(changes);
        let mut refusals = Vec::with_capacity(changes.len());
        let mut broken = None;
        for batch in changes.chunks(BATCH) {
            let mut of_batch = vec![None; batch.len()];
            if broken.is_none() {
                broken = self.apply_batch(batch, &mut of_batch).err();
            }
            if let Some(error) = &broken {
                give_up(batch, &mut of_batch, error);
            }
            // What was lost of one batch says nothing about the next.
            broken = broken.filter(|error| !matches!(error, Error::Lost));
            refusals.extend(of_batch);
        }
        refusals
            .into_iter()
            .map(|refusal| refusal.map_or(Ok(()), Err))
            .collect()
    }

    fn connect() -> Result<Client, Error> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::GENERIC),
        )
        .map_err(socket_error)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_WITHIN))
            .map_err(socket_error)?;
        // Only CAP_NET_ADMIN may go beyond net.core.rmem_max; without it nothing is applied anyway.
        sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER))
            .map_err(socket_error)?;
        Ok(Client {
            socket,
            family: 0,
            sequence: 1,
            datagram: vec![0; DATAGRAM],
        })
    }

    fn resolve_family(&mut self) -> Result<u16, Error> {
        let sequence = self.take_sequences(1);
        let request = message::get_family(sequence)?;
        let mut family = None;
        self.ask(&request, sequence, |answer| {
            family = Some(message::family_from(answer)?);
            Ok(())
        })?;
        family.ok_or(Error::Decode(DecodeError::Missing("the family")))
    }

    fn dump_once(&mut self) -> Result<Dump, Error> {
        let mut services = Vec::new();
        let sequence = self.take_sequences(1);
        let request = message::get_services(self.family, sequence)?;
        self.ask(&request, sequence, |answer| {
            services.push(message::service_from(answer)?);
            Ok(())
        })?;
        let mut dump = Dump::default();
        for (key, service, statistics) in services {
            match self.dump_destinations(&key, &mut dump) {
                Ok(destinations) => {
                    dump.table.insert(
                        key,
                        Pool {
                            service,
                            destinations,
                        },
                    );
                    dump.services.insert(key, statistics);
                    dump.service_order.push(key);
                }
                Err(error) if errno(&error) == Some(Errno::SRCH) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(dump)
    }

    fn dump_destinations(
        &mut self,
        service: &ServiceKey,
        dump: &mut Dump,
    ) -> Result<BTreeMap<DestinationKey, Destination>, Error> {
        let mut destinations = BTreeMap::new();
        let sequence = self.take_sequences(1);
        let request = message::get_destinations(self.family, sequence, service)?;
        self.ask(&request, sequence, |answer| {
            let (key, settings, statistics) = message::destination_from(answer, service)?;
            destinations.insert(key, settings);
            dump.destinations.insert((*service, key), statistics);
            dump.destination_order.push((*service, key));
            Ok(())
        })?;
        Ok(destinations)
    }

    /// Applies a batch and fills in what is refused. After an error nothing is known of those
    /// changes for which nothing is filled in.
    fn apply_batch(
        &mut self,
        batch: &[Change],
        refusals: &mut [Option<Refused>],
    ) -> Result<(), Error> {
        let first = self.take_sequences(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        let mut request = Changes::new(self.family);
        let mut last = None;
        for ((sequence, change), refusal) in (first..).zip(batch).zip(&mut *refusals) {
            match request.add(sequence, change) {
                Ok(()) => last = Some(sequence),
                Err(error) => *refusal = Some(refused(change, Errno::INVAL, &error)),
            }
        }
        // The kernel answers whatever it refuses. One acknowledgement, of the last, says that it is
        // through with all of them.
        let Some(last) = last else {
            return Ok(());
        };
        request.acknowledge();
        self.exchange(request.bytes(), first, last, |reply| {
            let Body::Status(errno @ 1..) = reply.body else {
                return;
            };
            let index = usize::try_from(reply.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
            if let (Some(change), Some(refusal)) = (batch.get(index), refusals.get_mut(index)) {
                *refusal = Some(Refused::by_kernel(change, errno));
            }
        })
    }

    /// One request, of which every answer is handed to `each`. The first that makes no sense is the
    /// result, but all are read, so that the socket is ready for the next request.
    fn ask(
        &mut self,
        request: &[u8],
        sequence: u32,
        mut each: impl FnMut(&[u8]) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        self.exchange(request, sequence, sequence, |reply| {
            let error = match reply.body {
                _ if reply.interrupted => Err(Error::Interrupted),
                Body::Message(answer) => each(answer).map_err(Error::Decode),
                Body::Done(errno @ 1..) | Body::Status(errno @ 1..) => {
                    Err(Error::Kernel(std::io::Error::from_raw_os_error(errno)))
                }
                Body::Done(_) | Body::Status(_) | Body::Nothing => Ok(()),
            };
            if result.is_ok() {
                result = error;
            }
        })?;
        result
    }

    /// Sends requests with the sequence numbers `first` to `last` and reads until the last of them
    /// is done with. Answers to earlier requests are left out.
    fn exchange(
        &mut self,
        requests: &[u8],
        first: u32,
        last: u32,
        mut each: impl FnMut(Reply<'_>),
    ) -> Result<(), Error> {
        send(&self.socket, requests, SendFlags::empty()).map_err(socket_error)?;
        let mut lost = false;
        loop {
            // After an overrun the kernel drops all further answers until everything is read.
            let wait = if lost {
                RecvFlags::DONTWAIT
            } else {
                RecvFlags::empty()
            };
            let received = recv(
                &self.socket,
                self.datagram.as_mut_slice(),
                wait | RecvFlags::TRUNC,
            );
            let length = match received {
                Ok((_, length)) => length,
                Err(Errno::INTR) => continue,
                Err(Errno::NOBUFS) => {
                    lost = true;
                    continue;
                }
                Err(Errno::AGAIN) if lost => return Err(Error::Lost),
                Err(Errno::AGAIN) => return Err(Error::Silent),
                Err(errno) => return Err(socket_error(errno)),
            };
            let datagram = self.datagram.get(..length).ok_or(DecodeError::Truncated)?;
            for reply in message::replies(datagram) {
                let reply = reply?;
                if reply.sequence.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                each(reply);
                let end = matches!(reply.body, Body::Done(_) | Body::Status(_));
                if end && reply.sequence == last && !lost {
                    return Ok(());
                }
            }
        }
    }

    /// Takes `count` sequence numbers and returns the first. They begin anew before they overflow
    /// within a batch.
    fn take_sequences(&mut self, count: u32) -> u32 {
        let first = if self.sequence.checked_add(count).is_some() {
            self.sequence
        } else {
            1
        };
        self.sequence = first.saturating_add(count);
        first
    }
}

/// Counts as refused whatever in a batch is not known to be done.
fn give_up(batch: &[Change], refusals: &mut [Option<Refused>], error: &Error) {
    let errno = match error {
        Error::Socket(error) | Error::Kernel(error) => {
            Errno::from_io_error(error).unwrap_or(Errno::IO)
        }
        Error::Silent => Errno::TIMEDOUT,
        Error::Lost => Errno::NOBUFS,
        Error::Refused { errno, .. } => Errno::from_raw_os_error(*errno),
        Error::Interrupted | Error::Decode(_) | Error::Encode(_) => Errno::BADMSG,
    };
    let reason = format!("it is not known whether this was done: {error}");
    for (change, refusal) in batch.iter().zip(refusals) {
        refusal.get_or_insert_with(|| refused(change, errno, &reason));
    }
}

fn refused(change: &Change, errno: Errno, reason: &impl ToString) -> Refused {
    Refused {
        change: Box::new(change.clone()),
        errno: errno.raw_os_error(),
        reason: reason.to_string(),
    }
}

/// What the kernel answered, if that was an errno.
fn errno(error: &Error) -> Option<Errno> {
    match error {
        Error::Kernel(error) => Errno::from_io_error(error),
        Error::Refused { errno, .. } => Some(Errno::from_raw_os_error(*errno)),
        Error::Socket(_)
        | Error::Silent
        | Error::Lost
        | Error::Interrupted
        | Error::Decode(_)
        | Error::Encode(_) => None,
    }
}

fn socket_error(errno: Errno) -> Error {
    Error::Socket(errno.into())
}

#[cfg(test)]
mod tests;
