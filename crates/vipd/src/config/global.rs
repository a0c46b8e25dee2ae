//! `[global]` and `[ipvs]`: the daemon itself, and how it keeps the kernel's table.

use std::path::PathBuf;
use std::time::Duration;

use super::section::Section;
use super::{Global, Ipvs, OnStop, Sync, text};

const RESYNC_MIN: Duration = Duration::from_millis(100);
const RESYNC_MAX: Duration = Duration::from_secs(3600);

impl Global {
    pub(super) fn read(mut s: Section<'_>) -> Option<Global> {
        let default = Global::default();
        let name = s.or("name", default.name, |v| v.parse(text::name));
        let control_socket = s.or("control_socket", default.control_socket, |v| {
            v.parse(text::socket_path)
        });
        let http = s.maybe("http", |v| v.parse(text::listener));
        let state_dir = s.or("state_dir", default.state_dir, |v| v.parse(text::path));
        s.finish();
        Some(Global {
            name: name?,
            control_socket: control_socket?,
            http: http?,
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
            state_dir: PathBuf::from("/var/lib/vipd"),
        }
    }
}

impl Ipvs {
    pub(super) fn read(mut s: Section<'_>) -> Option<Ipvs> {
        let default = Ipvs::default();
        let resync_interval = s.or("resync_interval", default.resync_interval, |v| {
            v.duration(RESYNC_MIN..=RESYNC_MAX)
        });
        let on_stop = s.or("on_stop", default.on_stop, |v| {
            v.choice(&[("remove", OnStop::Remove), ("keep", OnStop::Keep)], &[])
        });
        let sync = s.maybe("sync", |v| Sync::read(v.section()?));
        s.refuse(&["timeouts", "sysctl"]);
        s.finish();
        Some(Ipvs {
            resync_interval: resync_interval?,
            on_stop: on_stop?,
            sync: sync?,
        })
    }
}

impl Default for Ipvs {
    fn default() -> Ipvs {
        Ipvs {
            resync_interval: Duration::from_secs(10),
            on_stop: OnStop::Remove,
            sync: None,
        }
    }
}
