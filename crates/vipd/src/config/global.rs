//! `[global]`, `[ipvs]` and `[sysctl]`: the daemon itself, how it keeps the kernel's table, and what it may
//! set beside that.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipvs::Timeouts;

use super::section::Section;
use super::value::Value;
use super::{Global, Ipvs, OnStop, Sync, Sysctl, sysctl, text};

const RESYNC_MIN: Duration = Duration::from_millis(100);
const RESYNC_MAX: Duration = Duration::from_secs(3600);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(31 * 86_400);

impl Global {
    pub(super) fn read(mut s: Section<'_>) -> Option<Global> {
        let default = Global::default();
        let name = s.or("name", default.name, |v| v.parse(text::name));
        let control_socket = s.or("control_socket", default.control_socket, |v| {
            v.parse(text::socket_path)
        });
        let public = s.get("http_public");
        let http_public = public.as_ref().map_or(Some(false), Value::boolean);
        let http = s.maybe("http", |v| {
            let address = v.parse(text::listener)?;
            if !address.ip().to_canonical().is_loopback() && http_public == Some(false) {
                v.report(
                    format!("{} is open to others than this host", address.ip()),
                    "write \"127.0.0.1:PORT\", or add `http_public = true`: whoever reaches it reads \
                     status, events and metrics without any password",
                );
                return None;
            }
            Some(address)
        });
        let state_dir = s.or("state_dir", default.state_dir, |v| v.parse(text::path));
        s.finish();
        Some(Global {
            name: name?,
            control_socket: control_socket?,
            http: http?,
            http_public: http_public?,
            state_dir: state_dir?,
        })
    }
}

impl Default for Global {
    fn default() -> Global {
        let host = rustix::system::uname();
        Global {
            name: host.nodename().to_string_lossy().into_owned(),
            control_socket: PathBuf::from("/run/vipd/control.sock"),
            http: None,
            http_public: false,
            state_dir: PathBuf::from("/var/lib/vipd"),
        }
    }
}

impl Ipvs {
    /// Returns beside where it switches connection tracking off.
    pub(super) fn read<'a>(mut s: Section<'a>) -> Option<(Ipvs, Option<Value<'a>>)> {
        let default = Ipvs::default();
        let resync_interval = s.or("resync_interval", default.resync_interval, |v| {
            v.duration(RESYNC_MIN..=RESYNC_MAX)
        });
        let on_stop = s.or("on_stop", default.on_stop, |v| {
            v.choice(&[("remove", OnStop::Remove), ("keep", OnStop::Keep)], &[])
        });
        let timeouts = s.maybe("timeouts", timeouts);
        let sysctl = s.or("sysctl", (default.sysctl, None), sysctl::read);
        let sync = s.maybe("sync", |v| Sync::read(v.section()?));
        s.finish();
        let (sysctl, conntrack_off) = sysctl?;
        let ipvs = Ipvs {
            resync_interval: resync_interval?,
            on_stop: on_stop?,
            timeouts: timeouts?,
            sysctl,
            sync: sync?,
        };
        Some((ipvs, conntrack_off))
    }
}

impl Default for Ipvs {
    fn default() -> Ipvs {
        Ipvs {
            resync_interval: Duration::from_secs(10),
            on_stop: OnStop::Remove,
            timeouts: None,
            sysctl: sysctl::defaults(),
            sync: None,
        }
    }
}

impl Sysctl {
    pub(super) fn read(mut s: Section<'_>) -> Option<Sysctl> {
        let manage = s.or("manage", Sysctl::default().manage, |v| v.boolean());
        s.finish();
        Some(Sysctl { manage: manage? })
    }
}

impl Default for Sysctl {
    fn default() -> Sysctl {
        Sysctl { manage: true }
    }
}

/// `timeouts`; what is not written is zero, which leaves the kernel's alone.
fn timeouts(v: &Value<'_>) -> Option<Timeouts> {
    let mut s = v.section()?;
    let mut timeout = |key| {
        s.or(key, Duration::ZERO, |v| {
            let timeout = v.duration(TIMEOUT)?;
            if timeout.subsec_nanos() != 0 {
                v.report("IPVS counts whole seconds", "write it without a fraction");
                return None;
            }
            Some(timeout)
        })
    };
    let (tcp, tcp_fin, udp) = (timeout("tcp"), timeout("tcp_fin"), timeout("udp"));
    s.finish();
    Some(Timeouts {
        tcp: tcp?,
        tcp_fin: tcp_fin?,
        udp: udp?,
    })
}
