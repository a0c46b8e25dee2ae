//! A real server: nginx on a host.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::host::Host;
use crate::process::Process;
use crate::wait_until;

/// Size of `/download`, in bytes.
pub const DOWNLOAD: usize = 400_000;
/// How fast that goes, in bytes per second.
const DOWNLOAD_RATE: usize = 20_000;

/// A running nginx that answers `/` with the name of its host, `/who` with that, the client's address
/// and the port it came to, `/health` with a status, and `/download` with [`DOWNLOAD`] bytes, slowly.
/// Both families.
#[derive(Debug)]
pub struct Nginx {
    host: Host,
    process: Process,
}

impl Nginx {
    /// Starts it on the ports 80, 443, 8050 and 8080; returns when it answers.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub fn start(host: &Host) -> Result<Nginx> {
        Nginx::with_health(host, 200)
    }

    /// As [`Nginx::start`], with another status for `/health`.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub fn with_health(host: &Host, status: u16) -> Result<Nginx> {
        let folder = host.folder().join(format!("nginx-{}", host.name()));
        fs::create_dir_all(&folder)?;
        let (name, prefix) = (host.name(), folder.display());
        let listen =
            [80, 443, 8050, 8080].map(|port| format!("listen {port}; listen [::]:{port};"));
        let listen = listen.join(" ");
        let config = format!(
            "daemon off; master_process off; pid {prefix}/pid; error_log stderr;
             events {{ worker_connections 256; }}
             http {{
                 access_log off;
                 client_body_temp_path {prefix}; proxy_temp_path {prefix}; uwsgi_temp_path {prefix};
                 fastcgi_temp_path {prefix}; scgi_temp_path {prefix};
                 server {{
                     {listen}
                     location = /who {{ return 200 \"{name} $remote_addr $server_port\n\"; }}
                     location / {{ return 200 \"{name}\\n\"; }}
                     location /health {{
                         if (-f {prefix}/unwell) {{ return 503; }}
                         return {status} \"{name} {status}\\n\";
                     }}
                     location /download {{ root {prefix}; limit_rate {DOWNLOAD_RATE}; }}
                 }}
             }}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config)?;
        fs::write(folder.join("download"), vec![b'x'; DOWNLOAD])?;
        let (prefix, file) = (folder.to_string_lossy(), file.to_string_lossy());
        let arguments = ["-p", &prefix, "-e", "stderr", "-c", &file];
        let process = host.spawn("nginx", Path::new("/usr/sbin/nginx"), &arguments)?;
        let nginx = Nginx {
            host: host.clone(),
            process,
        };
        wait_until(Duration::from_secs(20), "nginx answers", || {
            Ok(nginx.host.get("http://127.0.0.1/").is_some())
        })
        .map_err(|error| error.context(nginx.process.output()))?;
        Ok(nginx)
    }

    /// From now on `/health` says 503, or what it said before; all else goes on.
    ///
    /// # Errors
    ///
    /// The file that says so cannot be made.
    pub fn set_unwell(&self, unwell: bool) -> Result<()> {
        let name = self.host.name();
        let file = self.host.folder().join(format!("nginx-{name}/unwell"));
        if unwell {
            fs::write(file, "")?;
        } else if file.exists() {
            fs::remove_file(file)?;
        }
        Ok(())
    }

    /// Stops it at once: connections to it are refused.
    ///
    /// # Errors
    ///
    /// It does not end.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal("TERM")?;
        self.process.wait(Duration::from_secs(10)).map(|_| ())
    }
}
