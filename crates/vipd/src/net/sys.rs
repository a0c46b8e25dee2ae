//! The system calls that no crate wraps. The only unsafe code of the workspace.
#![allow(
    unsafe_code,
    reason = "each block says why it is sound; nothing else needs it"
)]

use std::io;
use std::os::fd::AsFd;
use std::time::SystemTime;

use rustix::net::{RecvFlags, SocketAddrAny};
use socket2::{SockAddr, SockAddrStorage};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// An Ethernet address as people write it.
#[must_use]
pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Gives the calling thread the real-time policy `SCHED_RR` at its lowest priority, so that ordinary
/// load does not delay it (sched(7)).
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_NICE` and real-time limit.
pub fn schedule_round_robin() -> io::Result<()> {
    // SAFETY: sched_get_priority_min takes no pointer, and pid 0 is the calling thread;
    // sched_setscheduler reads the one structure it is given, which lives until it returns.
    let result = unsafe {
        let parameters = libc::sched_param {
            sched_priority: libc::sched_get_priority_min(libc::SCHED_RR),
        };
        libc::sched_setscheduler(
            0,
            libc::SCHED_RR | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ignores the signals by which a terminal or systemd ends all processes of a group, also in programs
/// that are started later.
pub fn ignore_group_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: SIG_IGN runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Has all threads share one arena of the C library's allocator (mallopt(3)), which would otherwise
/// make one for each and fill none. What is small, as all the advert path's is, comes from a cache that
/// each thread has for itself.
pub fn share_arena() {
    // SAFETY: mallopt takes two numbers. Where it does not know the first, it does nothing.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory that is free back to the kernel (malloc_trim(3)): what reading a large file took. Memory
/// that is locked cannot be given back.
pub fn give_memory_back() {
    // SAFETY: malloc_trim takes a number and touches only what is free.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Takes the pages of programs and libraries out of this process' memory (madvise(2)): what is needed
/// again comes back from the page cache at the next step, and what only the start needed stays out.
/// Pages that are locked stay.
pub fn forget_text() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        return;
    };
    // RANGE PERMISSIONS OFFSET DEVICE INODE PATH; code is what nobody has ever written to.
    let text = maps
        .lines()
        .filter(|line| line.contains(" r-xp ") && line.contains('/'));
    let ranges = text.filter_map(|line| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let address = |digits| usize::from_str_radix(digits, 16).ok();
        Some((address(start)?, address(end)?))
    });
    for (start, end) in ranges {
        // SAFETY: a private mapping of a file that is not writable holds what the file holds, before
        // and after.
        unsafe {
            let length = end.saturating_sub(start);
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(start),
                length,
                libc::MADV_DONTNEED,
            );
        }
    }
}

/// The link-layer address (packet(7)) of an Ethernet type: sent to, a frame leaves by the interface
/// of that index for that destination; bound to, the type is received (index 0: on every interface).
#[must_use]
pub fn link_layer_address(index: u32, protocol: u16, destination: Mac) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the storage is larger than, and as aligned as, sockaddr_ll, all of whose bit patterns
    // are valid; the length given is that of the structure.
    unsafe {
        let address = storage.view_as::<libc::sockaddr_ll>();
        address.sll_family = AF_PACKET;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = i32::try_from(index).unwrap_or(0);
        address.sll_halen = 6;
        for (to, from) in address.sll_addr.iter_mut().zip(destination) {
            *to = from;
        }
        SockAddr::new(storage, SOCKADDR_LL_LENGTH)
    }
}

/// What the kernel says of a packet that came in over a packet socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How much of the buffer it fills.
    pub length: usize,
    /// The index of the interface.
    pub index: u32,
    /// `PACKET_HOST`, `PACKET_BROADCAST`, ...: for whom it is.
    pub packet_type: u8,
    /// The Ethernet address of its sender.
    pub source: Option<Mac>,
}

/// Takes one packet from a non-blocking packet socket; `None` when no more are waiting.
///
/// # Errors
///
/// The kernel's; `EINVAL` if the socket is not a packet socket.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<Received>> {
    let (_, length, from) = match rustix::net::recvfrom(socket, &mut *buffer, RecvFlags::empty()) {
        Ok(received) => received,
        Err(rustix::io::Errno::AGAIN) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let from = from
        .as_ref()
        .and_then(link_layer)
        .ok_or(io::ErrorKind::InvalidInput)?;
    let source = from
        .sll_addr
        .first_chunk()
        .filter(|_| from.sll_halen == 6)
        .copied();
    Ok(Some(Received {
        length,
        index: u32::try_from(from.sll_ifindex).unwrap_or(0),
        packet_type: from.sll_pkttype,
        source,
    }))
}

fn link_layer(address: &SocketAddrAny) -> Option<libc::sockaddr_ll> {
    let complete = address.addr_len() >= SOCKADDR_LL_LENGTH;
    if !complete || address.address_family().as_raw() != AF_PACKET {
        return None;
    }
    // SAFETY: the pointer is to at least `addr_len` initialised bytes, which is enough for the
    // structure, all of whose bit patterns are valid; it is copied out.
    Some(unsafe {
        address
            .as_ptr()
            .cast::<libc::sockaddr_ll>()
            .read_unaligned()
    })
}

/// A point in time as the clock on this host's wall shows it: `2027-01-15 09:00:00`. Where the C
/// library cannot tell: `@` and the seconds since 1970, as date(1) reads them.
#[must_use]
pub fn local_time(at: SystemTime) -> String {
    let since_epoch = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let unknown = || format!("@{}", since_epoch.as_secs());
    let Ok(seconds) = libc::time_t::try_from(since_epoch.as_secs()) else {
        return unknown();
    };
    // SAFETY: every field of tm is a number or a pointer, for which zero is valid; both pointers
    // are to variables that live until the call returns, and the name of the zone, which tm points
    // to, is not read.
    let local = unsafe {
        let mut local: libc::tm = std::mem::zeroed();
        let known = !libc::localtime_r(&raw const seconds, &raw mut local).is_null();
        known.then_some(local)
    };
    let Some(local) = local else {
        return unknown();
    };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        i64::from(local.tm_year) + 1900,
        local.tm_mon + 1,
        local.tm_mday,
        local.tm_hour,
        local.tm_min,
        local.tm_sec
    )
}

/// `AF_PACKET` as `sa_family_t`.
const AF_PACKET: u16 = 17;
/// `sizeof(struct sockaddr_ll)`.
const SOCKADDR_LL_LENGTH: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_are_the_c_librarys() {
        assert_eq!(i32::from(AF_PACKET), libc::AF_PACKET);
        assert_eq!(SOCKADDR_LL_LENGTH as usize, size_of::<libc::sockaddr_ll>());
    }
}
