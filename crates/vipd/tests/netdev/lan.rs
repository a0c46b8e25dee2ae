//! Three hosts on a bridge: `a` and `b` are directors (10.0.0.1, 10.0.0.2), `c` a client
//! (10.0.0.100). All have fd00::/64 addresses with the same last part.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(8);

pub(crate) struct Lan {
    prefix: String,
}

impl Lan {
    pub(crate) fn new() -> Lan {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let lan = Lan {
            prefix: format!("nd{}x{number}", std::process::id()),
        };
        for host in ["lan", "a", "b", "c"] {
            run("ip", &["netns", "add", &lan.namespace(host)]);
        }
        let bridge = "link add br0 type bridge mcast_snooping 0 forward_delay 0";
        lan.ip("lan", bridge);
        lan.ip("lan", "link set br0 up");
        for (host, number) in [("a", "1"), ("b", "2"), ("c", "100")] {
            lan.ip(host, "link set lo up");
            lan.plug(host);
            lan.ip(host, &format!("addr add 10.0.0.{number}/24 dev eth0"));
            let address = format!("addr add fd00::{number}/64 dev eth0 nodad");
            lan.ip(host, &address);
        }
        lan
    }

    /// Gives a host an eth0 on the bridge.
    pub(crate) fn plug(&self, host: &str) {
        let (there, bridge) = (self.namespace(host), self.namespace("lan"));
        let port = format!("p{host}");
        run(
            "ip",
            &[
                "link", "add", "eth0", "netns", &there, "type", "veth", "peer", "name", &port,
                "netns", &bridge,
            ],
        );
        self.ip("lan", &format!("link set {port} master br0 up"));
        self.ip(host, "link set eth0 up");
    }

    pub(crate) fn namespace(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    /// For the daemon in `a`.
    pub(crate) fn state_dir(&self) -> PathBuf {
        std::env::temp_dir().join(format!("vipd-{}", self.prefix))
    }

    /// `ip` in a host; it must succeed.
    pub(crate) fn ip(&self, host: &str, arguments: &str) -> String {
        let mut all = vec!["-n".to_owned(), self.namespace(host)];
        all.extend(arguments.split(' ').map(str::to_owned));
        run("ip", &all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A command in a host. Returns whether it succeeded, and what it wrote.
    pub(crate) fn exec(&self, host: &str, command: &str) -> (bool, String) {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.namespace(host)])
            .args(command.split(' '))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text)
    }

    pub(crate) fn sysctl(&self, host: &str, name: &str, value: &str) {
        let (done, _) = self.exec(host, &format!("sysctl -qw net.{name}={value}"));
        assert!(done, "{name}");
    }

    pub(crate) fn sysctl_of(&self, host: &str, name: &str) -> String {
        let (done, text) = self.exec(host, &format!("sysctl -n net.{name}"));
        assert!(done, "{name}");
        text.trim().to_owned()
    }

    pub(crate) fn mac(&self, host: &str, interface: &str) -> String {
        let text = self.ip(host, &format!("-br link show {interface}"));
        text.split_whitespace().nth(2).unwrap().to_owned()
    }

    /// Moves the calling thread, and the sockets it makes from here on, into a host.
    pub(crate) fn enter(&self, host: &str) {
        let file = std::fs::File::open(format!("/run/netns/{}", self.namespace(host))).unwrap();
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), network).unwrap();
    }

    /// Listens on a host's eth0.
    pub(crate) fn capture(&self, host: &str, filter: &str) -> Capture {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.namespace(host)])
            .args(["tcpdump", "-U", "-lnet", "-i", "eth0", filter])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(errors.read_line(&mut line).unwrap() > 0, "no tcpdump");
        }
        std::thread::spawn(move || errors.read_to_string(&mut String::new()));
        Capture { child }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in ["a", "b", "c", "lan"] {
            let name = self.namespace(host);
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
        let _ = std::fs::remove_dir_all(self.state_dir());
    }
}

pub(crate) struct Capture {
    child: Child,
}

impl Capture {
    /// What came, a line each, in tcpdump's words.
    pub(crate) fn finish(mut self) -> Vec<String> {
        std::thread::sleep(Duration::from_millis(200));
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let mut text = String::new();
        let mut stdout = self.child.stdout.take().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        self.child.wait().unwrap();
        // It ends with an empty line when it is interrupted.
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same where workers run on this thread.
pub(crate) async fn soon(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !so() {
        assert!(Instant::now() < end, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs a test in `a`, on a thread of its own with a runtime of its own.
pub(crate) fn in_lan<F: Future<Output = ()>>(test: impl FnOnce(std::sync::Arc<Lan>) -> F + Send) {
    let run = || {
        let lan = std::sync::Arc::new(Lan::new());
        lan.enter("a");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test(lan));
    };
    std::thread::scope(|scope| {
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
