//! A real nginx, as a child of the test.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::scratch::Scratch;
use crate::socket::free_address;

pub(crate) struct Nginx {
    child: Child,
    /// Its plain HTTP listener.
    pub(crate) http: SocketAddr,
    /// Its listener for HTTP/2 without TLS.
    pub(crate) h2c: SocketAddr,
    /// Its HTTPS listener, for HTTP/2 too; nobody listens there without a certificate.
    pub(crate) https: SocketAddr,
    /// Its prefix, which goes with it.
    scratch: Scratch,
}

impl Nginx {
    /// Serves plain HTTP with these `location`s.
    pub(crate) fn http(locations: &str) -> Nginx {
        Nginx::start(Scratch::new(), locations, false)
    }

    /// Serves HTTPS too, with `server.pem` and `server.key` of the directory.
    pub(crate) fn https(scratch: Scratch, locations: &str) -> Nginx {
        Nginx::start(scratch, locations, true)
    }

    /// The same where this test cannot connect to it: it may not listen yet.
    pub(crate) fn https_unseen(scratch: Scratch, locations: &str) -> Nginx {
        Nginx::begin(scratch, locations, true)
    }

    fn start(scratch: Scratch, locations: &str, tls: bool) -> Nginx {
        let mut nginx = Nginx::begin(scratch, locations, tls);
        let deadline = Instant::now() + Duration::from_secs(60);
        // It begins to listen on one after the other.
        let serves = |address| TcpStream::connect(address).is_ok();
        while !(serves(nginx.http) && serves(nginx.h2c) && (!tls || serves(nginx.https))) {
            let gone = nginx.child.try_wait().unwrap();
            if gone.is_some() || Instant::now() > deadline {
                let log = nginx.scratch.path().join("error.log");
                let log = std::fs::read_to_string(log).unwrap_or_default();
                panic!("nginx does not serve ({gone:?}): {log}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        nginx
    }

    fn begin(scratch: Scratch, locations: &str, tls: bool) -> Nginx {
        let (http, h2c, https) = (free_address(), free_address(), free_address());
        let listen_tls = if tls {
            format!(
                "listen {https} ssl http2; ssl_certificate server.pem; ssl_certificate_key server.key;"
            )
        } else {
            String::new()
        };
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log error.log;
             events {{ worker_connections 64; }}
             http {{
                 access_log off;
                 client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3;
                 uwsgi_temp_path t4; scgi_temp_path t5;
                 server {{ listen {http}; listen {h2c} http2; {listen_tls} root .; {locations} }}
             }}"
        );
        let dir = scratch.path();
        std::fs::write(dir.join("nginx.conf"), config).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let child = Command::new("nginx")
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .arg("-p")
            .arg(dir)
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need nginx (Debian: nginx-light)");
        Nginx {
            child,
            http,
            h2c,
            https,
            scratch,
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
