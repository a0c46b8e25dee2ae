//! The daemon's log: one line a decision, on standard error, or as an entry with fields in systemd's
//! journal where that is what standard error leads to.

use std::ffi::OsStr;
use std::io::{IsTerminal, stderr};
use std::os::fd::{AsFd, BorrowedFd};

use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What fields are called in the journal: `event` is `VIPD_EVENT`.
const PREFIX: &str = "VIPD";
/// rtnetlink's decoder complains of every message of a newer kernel; `links::REFRESH` heals it.
const LEVELS: &str = "info,netlink_proto=off,netlink_packet_route=off";

/// Begins to log. `before` is where the log of the daemon goes whose place this one takes; standard error
/// leads elsewhere at first. `VIPD_LOG` sets the level (`warn`, `debug`, `vipd::reconcile=trace`).
pub fn init(before: Option<BorrowedFd<'_>>) {
    let filter = EnvFilter::try_from_env("VIPD_LOG").unwrap_or_else(|_| EnvFilter::new(LEVELS));
    let stream = std::env::var_os("JOURNAL_STREAM");
    let standard = stderr();
    let log = before.unwrap_or(standard.as_fd());
    let journal = stream.is_some_and(|stream| leads_there(&stream, log));
    // Without its socket the journal still takes lines.
    if let Some(layer) = journal.then(tracing_journald::layer).and_then(Result::ok) {
        let layer = layer
            .with_field_prefix(Some(PREFIX.to_owned()))
            .with_syslog_identifier("vipd".to_owned())
            .with_priority_mappings(PriorityMappings {
                info: Priority::Informational,
                debug: Priority::Debug,
                ..PriorityMappings::new()
            });
        tracing_subscriber::registry()
            .with(filter)
            .with(layer)
            .init();
        return;
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal());
    // The journal has its own time stamps.
    if journal {
        builder.without_time().init();
    } else {
        builder.init();
    }
}

/// Whether the log is the stream of which systemd says that it leads to the journal
/// (systemd.exec(5): `DEVICE:INODE`). A variable that was inherited names another.
fn leads_there(stream: &OsStr, log: BorrowedFd<'_>) -> bool {
    let Ok(file) = rustix::fs::fstat(log) else {
        return false;
    };
    stream == OsStr::new(&format!("{}:{}", file.st_dev, file.st_ino))
}
