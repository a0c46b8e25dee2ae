//! A real DNS server (NSD), as a child of the test. It has one zone, `example.org`, and refuses all
//! others.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::scratch::Scratch;
use crate::socket::free_address;

const ZONE: &str = "$ORIGIN example.org.
$TTL 60
@ SOA ns admin 7 3600 600 86400 60
@ NS ns
@ MX 10 mail
@ TXT \"v=spf1 \" \"-all\"
@ CAA 0 issue \"ca.example.net\"
ns A 192.0.2.53
www A 192.0.2.1
www A 192.0.2.2
www AAAA 2001:db8::1
alias CNAME www
_sip._tcp SRV 5 10 5060 sip
ptr PTR host.example.net.
";

pub(crate) struct Nsd {
    child: Child,
    /// Where it answers, over UDP and TCP.
    pub(crate) address: SocketAddr,
    _scratch: Scratch,
}

impl Nsd {
    pub(crate) fn start() -> Nsd {
        Nsd::at(free_address())
    }

    pub(crate) fn at(address: SocketAddr) -> Nsd {
        let scratch = Scratch::new();
        let dir = scratch.path();
        let config = format!(
            "server:
    ip-address: {}@{}
    username: \"\"
    zonesdir: \"{dir}\"
    database: \"\"
    pidfile: \"{dir}/nsd.pid\"
    xfrdfile: \"{dir}/xfrd.state\"
    zonelistfile: \"{dir}/zone.list\"
    cookie-secret-file: \"{dir}/cookies\"
    xfrdir: \"{dir}\"
    logfile: \"{dir}/log\"
remote-control:
    control-enable: no
zone:
    name: example.org
    zonefile: zone
",
            address.ip(),
            address.port(),
            dir = dir.display(),
        );
        // More than fits into a datagram.
        let long = "x".repeat(200);
        let long: String = (0..10)
            .map(|n| format!("long TXT \"{n} {long}\"\n"))
            .collect();
        std::fs::write(dir.join("nsd.conf"), config).unwrap();
        std::fs::write(dir.join("zone"), format!("{ZONE}{long}")).unwrap();
        let child = Command::new("/usr/sbin/nsd")
            .arg("-d")
            .arg("-c")
            .arg(dir.join("nsd.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need nsd (Debian: nsd)");
        let mut nsd = Nsd {
            child,
            address,
            _scratch: scratch,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            let gone = nsd.child.try_wait().unwrap();
            if gone.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(nsd._scratch.path().join("log"));
                panic!("nsd does not serve ({gone:?}): {}", log.unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        nsd
    }
}

impl Drop for Nsd {
    fn drop(&mut self) {
        // It has children, which go with it when it is asked, and not when it is killed.
        if let Some(id) = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _gone = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
