//! The process `vipd guard`: waits for the end of the daemon that started it.
//!
//! One thread without a runtime. Its standard input is the pair of sockets, its standard output the
//! eventfd of the pulse, its standard error the daemon's. It ignores the signals by which systemd or a
//! terminal end a whole group of processes: it ends by itself, and soon.
//!
//! A daemon that is silent for longer than its will allows counts as hung. The guard then does the same,
//! once, and goes on guarding: a daemon that wakes puts its addresses back if it is to have them. Time in
//! which this process did not run either (a machine that was suspended) does not count.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, stderr, stdin, stdout};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket as Netlink, SocketAddr as NetlinkAddress};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use socket2::{Domain, Protocol, Socket, Type};
use zeroize::Zeroizing;

use super::will::{Farewell, Inbox, Said, Will};
use crate::instance;
use crate::net::{addresses, sys, virtual_mac};

/// The command that this process is run by. People have no use for it.
pub const COMMAND: &str = "guard";

/// How often silence is measured.
const TICK: Duration = Duration::from_millis(250);
/// How long a daemon whose stream has ended may take to end itself.
const END: Duration = Duration::from_secs(2);
/// Netlink messages in one datagram.
const BATCH: usize = 64;
/// More than a message of the daemon in one read.
const READ: usize = 16 * 1024;
/// Removed already, or gone with something else.
const GONE: [i32; 5] = [
    libc::EADDRNOTAVAIL,
    libc::ENODEV,
    libc::ESRCH,
    libc::ENOENT,
    libc::ENXIO,
];

/// Guards the process that started this one, until its end or its word.
#[must_use]
pub fn run() -> ExitCode {
    sys::ignore_group_signals();
    let _ = rustix::thread::set_name(c"vipd-guard");
    // It acts while the machine may be out of everything; it guards no worse without.
    let _ = sys::schedule_round_robin();
    use rustix::mm::{MlockAllFlags, mlockall};
    let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
    let watcher = match Watcher::new() {
        Ok(watcher) => watcher,
        Err(error) => {
            say(format!("not guarded: {error}"));
            return ExitCode::FAILURE;
        }
    };
    watcher.guard();
    ExitCode::SUCCESS
}

struct Watcher {
    daemon: Option<Pid>,
    /// Becomes readable with the daemon's end.
    end: Option<OwnedFd>,
    will: Option<Will>,
    inbox: Inbox,
    tools: Tools,
    /// How long nothing was heard of the advert path.
    silence: Duration,
    acted: bool,
    /// While it is held, no new daemon begins. After an upgrade the guard of the daemon before has it
    /// for a moment.
    lock: Option<instance::Lock>,
}

/// How the daemon ended.
enum End {
    Dead,
    Dismissed,
}

impl Watcher {
    fn new() -> io::Result<Watcher> {
        let daemon = getppid();
        Ok(Watcher {
            daemon,
            // Without it the end of the stream tells, too.
            end: daemon.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()),
            will: None,
            inbox: Inbox::default(),
            tools: Tools::new()?,
            silence: Duration::ZERO,
            acted: false,
            lock: instance::Lock::guard_if_free(),
        })
    }

    fn guard(mut self) {
        match self.wait() {
            End::Dismissed => {}
            End::Dead => self.take_over(),
        }
    }

    fn wait(&mut self) -> End {
        let mut at = Instant::now();
        loop {
            let (said, beat, dead) = self.poll();
            if self.lock.is_none() {
                self.lock = instance::Lock::guard_if_free();
            }
            let now = Instant::now();
            // What is longer than two ticks was not the daemon's silence alone.
            let passed = now.saturating_duration_since(at).min(TICK * 2);
            at = now;
            self.silence = if beat {
                Duration::ZERO
            } else {
                self.silence + passed
            };
            self.acted &= !beat;
            if said || dead {
                // What was written before the end is read before it counts.
                let over = self.read();
                if let Some(end) = over.or(dead.then_some(End::Dead)) {
                    return end;
                }
            }
            let patience = self.will.as_ref().and_then(|will| will.patience);
            if !self.acted && patience.is_some_and(|patience| self.silence >= patience) {
                self.acted = true;
                self.break_in();
            }
        }
    }

    /// Waits. Returns whether there is something to read, whether the pulse beat, and whether the daemon
    /// is dead.
    fn poll(&self) -> (bool, bool, bool) {
        let (stream, pulse) = (stdin(), stdout());
        let mut fds = vec![
            PollFd::new(&stream, PollFlags::IN),
            PollFd::new(&pulse, PollFlags::IN),
        ];
        fds.extend(self.end.iter().map(|end| PollFd::new(end, PollFlags::IN)));
        let measured = self
            .will
            .as_ref()
            .is_some_and(|will| will.patience.is_some());
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: TICK.subsec_nanos().into(),
        };
        let looks = measured || self.lock.is_none();
        if poll(&mut fds, looks.then_some(&tick)).is_err() {
            return (false, false, false);
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || ready.next().unwrap_or(false);
        let (said, beat, dead) = (next(), next(), next());
        if beat {
            let _ = rustix::io::read(&pulse, &mut [0_u8; 8][..]);
        }
        (said, beat, dead)
    }

    /// Reads what there is.
    fn read(&mut self) -> Option<End> {
        let mut buffer = Zeroizing::new(vec![0; READ]);
        loop {
            match rustix::net::recv(stdin(), buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Some(End::Dead),
                Ok((length, _)) => {
                    self.inbox.push(buffer.get(..length).unwrap_or_default());
                    while let Some(said) = self.inbox.next() {
                        match said {
                            Said::Will(will) => self.will = Some(*will),
                            Said::Dismissed => return Some(End::Dismissed),
                        }
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return None,
                Err(_) => return Some(End::Dead),
            }
        }
    }

    /// The daemon is dead.
    fn take_over(mut self) {
        let Some(mut will) = self.will.take() else {
            return;
        };
        let done = (!will.is_empty()).then(|| self.tools.execute(&will));
        let config = std::mem::take(&mut will.config);
        // What follows needs no key.
        drop(will);
        let pid = self.daemon.map_or(0, Pid::as_raw_pid);
        match done {
            Some(done) => say(format!("vipd (process {pid}) is dead: {done}")),
            None => say(format!("vipd (process {pid}) is dead")),
        }
        self.wait_for_the_end();
        if let Err(error) = release(&config) {
            say(format!("vipd release: {error}"));
        }
    }

    /// The stream ends a moment before the daemon gives up its locks.
    fn wait_for_the_end(&self) {
        if let Some(end) = &self.end {
            let patience = Timespec {
                tv_sec: END.as_secs().cast_signed(),
                tv_nsec: 0,
            };
            let _ = poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&patience));
        }
    }

    /// The daemon hangs.
    fn break_in(&mut self) {
        let Some(will) = self.will.as_ref().filter(|will| !will.is_empty()) else {
            return;
        };
        let done = self.tools.execute(will);
        let (pid, silence) = (self.daemon.map_or(0, Pid::as_raw_pid), self.silence);
        say(format!(
            "vipd (process {pid}) has not turned for {silence:.1?}: {done}"
        ));
        // It reads that if it wakes.
        let _ = rustix::net::send(stdin(), b"!", SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

/// Sees to what else a dead daemon leaves: rules of the firewall, settings, what carries our mark.
fn release(config: &Path) -> io::Result<()> {
    let status = Command::new("/proc/self/exe")
        .args(["release", "--after-guard", "-c"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::from(stderr().as_fd().try_clone_to_owned()?))
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(status.to_string()))
    }
}

/// What is ready before it is needed.
struct Tools {
    frames: Socket,
    netlink: Netlink,
}

/// What was done.
#[derive(Default)]
struct Done {
    told: usize,
    addresses: usize,
    errors: Vec<String>,
    took: Duration,
}

impl Tools {
    fn new() -> io::Result<Tools> {
        let mut netlink = Netlink::new(NETLINK_ROUTE)?;
        netlink.bind_auto()?;
        netlink.connect(&NetlinkAddress::new(0, 0))?;
        netlink.set_non_blocking(true)?;
        // Protocol 0: it receives nothing.
        let frames = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
        Ok(Tools { frames, netlink })
    }

    /// The peers first: they take over while the addresses go.
    fn execute(&self, will: &Will) -> Done {
        let began = Instant::now();
        let mut done = Done::default();
        let mut indexes = Indexes::default();
        for farewell in &will.farewells {
            match self.send(farewell, &mut indexes) {
                Ok(()) => done.told += 1,
                Err(error) => done.errors.push(format!("an advert: {error}")),
            }
        }
        let addresses = will.addresses.iter().filter_map(|held| {
            let index = indexes.of(&held.interface)?;
            let address = IpNet::new(held.address, held.prefix).ok()?;
            Some(addresses::removal(index, address))
        });
        let addresses: Vec<_> = addresses.collect();
        done.addresses = self.request(&addresses, &mut done.errors);
        let macvlans = will.macvlans.iter().filter_map(|name| indexes.of(name));
        let macvlans: Vec<_> = macvlans.map(virtual_mac::removal).collect();
        self.request(&will.routes, &mut done.errors);
        self.request(&macvlans, &mut done.errors);
        done.took = began.elapsed();
        done
    }

    fn send(&self, farewell: &Farewell, indexes: &mut Indexes) -> io::Result<()> {
        let bytes = farewell.bytes();
        let interface = farewell.interface.as_deref();
        let index = interface.and_then(|name| indexes.of(name));
        if farewell.frame {
            let index = index.ok_or(io::ErrorKind::NotFound)?;
            let to = sys::link_layer_address(index, 0, [0; 6]);
            return self.frames.send_to(&bytes, &to).map(drop);
        }
        let domain = match farewell.destination {
            IpAddr::V4(_) => Domain::IPV4,
            IpAddr::V6(_) => Domain::IPV6,
        };
        // A raw socket that sends whole packets and receives none.
        let raw = Protocol::from(libc::IPPROTO_RAW);
        let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(raw))?;
        if let Some(name) = interface {
            socket.bind_device(Some(name.as_bytes()))?;
        }
        let to = match farewell.destination {
            IpAddr::V4(_) => SocketAddr::new(farewell.destination, 0),
            IpAddr::V6(ip) => {
                let local = ip.is_multicast() || ip.is_unicast_link_local();
                let scope = index.filter(|_| local).unwrap_or(0);
                SocketAddrV6::new(ip, 0, 0, scope).into()
            }
        };
        socket.send_to(&bytes, &to.into()).map(drop)
    }

    /// Has the kernel do something, many in one datagram. Returns how many were done.
    fn request(&self, messages: &[Vec<u8>], errors: &mut Vec<String>) -> usize {
        let mut done = 0;
        for batch in messages.chunks(BATCH) {
            // The kernel has done them when it returns; the answers wait.
            if let Err(error) = self.netlink.send(&batch.concat(), 0) {
                errors.push(format!("netlink: {error}"));
                continue;
            }
            let mut answers = Vec::with_capacity(READ);
            while let Ok(1..) = {
                answers.clear();
                self.netlink.recv(&mut answers, 0)
            } {
                for code in answer_codes(&answers) {
                    if code == 0 {
                        done += 1;
                    } else if !GONE.contains(&code) {
                        errors.push(io::Error::from_raw_os_error(code).to_string());
                    }
                }
            }
        }
        done
    }
}

/// The error numbers in a datagram of answers (netlink(7)): `NLMSG_ERROR`, 0 is success.
fn answer_codes(mut bytes: &[u8]) -> Vec<i32> {
    const NLMSG_ERROR: u16 = 2;
    let mut codes = Vec::new();
    while let Some(&[a, b, c, d, e, f, ..]) = bytes.first_chunk::<16>() {
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).unwrap_or(0);
        let code = bytes.get(16..20).and_then(<[u8]>::first_chunk::<4>);
        if let Some(code) = code.filter(|_| u16::from_ne_bytes([e, f]) == NLMSG_ERROR) {
            codes.push(i32::from_ne_bytes(*code).saturating_abs());
        }
        let next = length.max(16).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    codes
}

/// The numbers of interfaces as they are now.
#[derive(Default)]
struct Indexes(BTreeMap<String, Option<u32>>);

impl Indexes {
    fn of(&mut self, name: &str) -> Option<u32> {
        if let Some(known) = self.0.get(name) {
            return *known;
        }
        let index = nix::net::if_::if_nametoindex(name).ok();
        self.0.insert(name.to_owned(), index);
        index
    }
}

impl Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Done {
            told,
            addresses,
            took,
            ..
        } = self;
        write!(
            f,
            "sent {told} adverts of priority 0 and removed {addresses} addresses in {took:.1?}"
        )?;
        if let Some(error) = self.errors.first() {
            write!(f, "; {} failed: {error}", self.errors.len())?;
        }
        Ok(())
    }
}

#[allow(
    clippy::print_stderr,
    reason = "the daemon's log is its standard error"
)]
fn say(what: impl Display) {
    eprintln!("vipd guard: {what}");
}

#[cfg(test)]
mod tests {
    use super::answer_codes;

    #[test]
    fn each_answer_of_a_datagram_counts_and_a_broken_one_ends_it() {
        let answer = |code: i32| {
            let mut bytes = 36_u32.to_ne_bytes().to_vec();
            bytes.extend(2_u16.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(code.to_ne_bytes());
            bytes.extend([0; 16]);
            bytes
        };
        let both = [answer(0), answer(-19)].concat();
        assert_eq!(answer_codes(&both), [0, 19]);
        assert_eq!(answer_codes(&both[..50]), [0]);
        assert!(answer_codes(&[0; 20]).is_empty());
    }
}
