//! Network namespaces for tests on the real kernel: each test has its own, on a thread of its own,
//! and they end with it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::links::{self, Links};

/// How long anything may take that happens at all.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// The Ethernet address of `near`.
pub(crate) const NEAR: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];

/// Two hosts and a cable: `near` here, `far` there.
pub(crate) struct Testbed {
    pub(crate) here: File,
    pub(crate) there: File,
    pub(crate) runtime: Runtime,
    pub(crate) links: watch::Receiver<Arc<Links>>,
}

/// Runs a test between two hosts. Its thread stays in the namespace `here`.
pub(crate) fn between_hosts(test: impl FnOnce(Testbed) + Send + 'static) {
    let thread = std::thread::spawn(|| test(Testbed::new()));
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Testbed {
    fn new() -> Testbed {
        let there = new_namespace();
        let here = new_namespace();
        let namespace = format!("/proc/{}/fd/{}", std::process::id(), there.as_raw_fd());
        let cable = "link add near address 02:00:00:00:00:0a type veth peer name far address \
                     02:00:00:00:00:0b netns";
        ip(&format!("{cable} {namespace}"));
        ip("link set lo up");
        ip("link set near up");
        enter(&there);
        ip("link set far up");
        enter(&here);
        // Its threads are born in the namespace of this one.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (links, _) = runtime.block_on(links::watch()).unwrap();
        let testbed = Testbed {
            here,
            there,
            runtime,
            links,
        };
        testbed.wait_for(|links| links.named("near").is_some_and(|link| link.up));
        testbed
    }

    /// Waits until the picture of the interfaces here is so.
    pub(crate) fn wait_for(&self, what: impl Fn(&Links) -> bool) {
        let mut links = self.links.clone();
        let wait = async {
            let seen = links.wait_for(|links| what(links));
            tokio::time::timeout(SOON, seen).await.map(drop)
        };
        self.runtime
            .block_on(wait)
            .expect("the interfaces did not become what they should");
    }

    /// Does something on the other host.
    pub(crate) fn there<T>(&self, what: impl FnOnce() -> T) -> T {
        enter(&self.there);
        let result = what();
        enter(&self.here);
        result
    }
}

/// Waits until something is true.
pub(crate) fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + SOON;
    while !is_true() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `ip` in the namespace of this thread.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn new_namespace() -> File {
    #[allow(
        deprecated,
        reason = "deprecated for UnshareFlags::FILES, which is not used here"
    )]
    let unshared = rustix::thread::unshare(UnshareFlags::NEWNET);
    unshared.expect("these tests need to be run by root");
    File::open("/proc/thread-self/ns/net").unwrap()
}

fn enter(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}
