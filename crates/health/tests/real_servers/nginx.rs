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
    /// Its HTTPS listener; nobody listens there without a certificate.
    pub(crate) https: SocketAddr,
    /// Its prefix, which goes with it.
    _scratch: Scratch,
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

    fn start(scratch: Scratch, locations: &str, tls: bool) -> Nginx {
        let (http, https) = (free_address(), free_address());
        let listen_tls = if tls {
            format!(
                "listen {https} ssl; ssl_certificate server.pem; ssl_certificate_key server.key;"
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
                 server {{ listen {http}; {listen_tls} root .; {locations} }}
             }}"
        );
        let dir = scratch.path();
        std::fs::write(dir.join("nginx.conf"), config).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = Command::new("nginx")
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .arg("-p")
            .arg(dir)
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need nginx (Debian: nginx-light)");

        let deadline = Instant::now() + Duration::from_secs(10);
        // It begins to listen on one after the other.
        let serves = |address| TcpStream::connect(address).is_ok();
        while !(serves(http) && (!tls || serves(https))) {
            let gone = child.try_wait().unwrap();
            if gone.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(dir.join("error.log")).unwrap_or_default();
                let _gone_already = child.kill();
                panic!("nginx does not serve ({gone:?}): {log}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Nginx {
            child,
            http,
            https,
            _scratch: scratch,
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
