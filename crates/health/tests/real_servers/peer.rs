//! A network namespace of a test's own, with a neighbour at the other end of a cable.

use std::process::{Child, Command};

use rustix::thread::UnshareFlags;

/// 10.99.0.2 and 2001:db8:99::2; the test's own end has 1. Its namespace lives as long as the process
/// in it.
pub(crate) struct Peer(Child);

impl Peer {
    fn new() -> Peer {
        let mut sleep = Command::new("unshare");
        let peer = Peer(sleep.args(["--net", "sleep", "60"]).spawn().unwrap());
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let link = format!("/proc/{}/ns/net", peer.0.id());
        while std::fs::read_link(&link).unwrap() == own {
            std::thread::yield_now();
        }
        let id = peer.0.id();
        run("ip link set lo up");
        run(&format!("ip link add e0 type veth peer name e0 netns {id}"));
        for command in addressing(1) {
            run(&command);
        }
        for command in addressing(2) {
            peer.run(&command);
        }
        peer
    }

    pub(crate) fn run(&self, command: &str) {
        run(&format!("nsenter --net --target {} {command}", self.0.id()));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn addressing(host: u8) -> [String; 3] {
    [
        format!("ip address add 10.99.0.{host}/24 dev e0"),
        format!("ip address add 2001:db8:99::{host}/64 dev e0 nodad"),
        "ip link set e0 up".to_owned(),
    ]
}

pub(crate) fn run(command: &str) {
    let mut words = command.split(' ');
    let mut program = Command::new(words.next().unwrap());
    let output = program.args(words).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {errors}");
}

/// Runs a test on a thread of its own in the namespace.
pub(crate) fn with_peer(test: impl AsyncFnOnce(&Peer) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        #[allow(
            deprecated,
            reason = "deprecated for UnshareFlags::FILES, which is not used here"
        )]
        let unshared = rustix::thread::unshare(UnshareFlags::NEWNET);
        unshared.expect("these tests need to be run by root");
        let peer = Peer::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test(&peer));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
