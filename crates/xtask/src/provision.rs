//! What a fresh Debian machine needs: packages, and the kernel of the guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::say;

/// Debian packages, and a file of each that shows that it is there.
const PACKAGES: &[(&str, &str)] = &[
    ("bind9-dnsutils", "/usr/bin/dig"),
    ("busybox-static", "/bin/busybox"),
    ("ca-certificates", "/etc/ssl/certs/ca-certificates.crt"),
    ("cpio", "/usr/bin/cpio"),
    ("curl", "/usr/bin/curl"),
    ("debootstrap", "/usr/sbin/debootstrap"),
    ("dbus", "/usr/bin/dbus-daemon"),
    ("ethtool", "/sbin/ethtool"),
    ("frr", "/usr/lib/frr/vrrpd"),
    ("gcc", "/usr/bin/cc"),
    ("iproute2", "/bin/ip"),
    ("iptables", "/usr/sbin/iptables"),
    ("ipvsadm", "/sbin/ipvsadm"),
    ("iputils-ping", "/bin/ping"),
    ("keepalived", "/usr/sbin/keepalived"),
    ("kmod", "/sbin/modprobe"),
    ("ldirectord", "/usr/sbin/ldirectord"),
    ("libc6-dev", "/usr/include/stdio.h"),
    ("man-db", "/usr/bin/man"),
    ("nfs-common", "/sbin/mount.nfs4"),
    ("nfs-kernel-server", "/usr/sbin/rpc.nfsd"),
    ("nftables", "/usr/sbin/nft"),
    ("nginx-light", "/usr/sbin/nginx"),
    ("nsd", "/usr/sbin/nsd"),
    ("openssl", "/usr/bin/openssl"),
    ("procps", "/sbin/sysctl"),
    ("prometheus", "/usr/bin/promtool"),
    (
        "python3-aiosmtpd",
        "/usr/lib/python3/dist-packages/aiosmtpd/smtp.py",
    ),
    ("python3-pip", "/usr/bin/pip3"),
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("rpm", "/usr/bin/rpmbuild"),
    ("socat", "/usr/bin/socat"),
    ("systemd", "/usr/bin/systemd-analyze"),
    ("systemd-container", "/usr/bin/systemd-nspawn"),
    ("systemd-timesyncd", "/lib/systemd/systemd-timesyncd"),
    ("tcpdump", "/usr/bin/tcpdump"),
    ("tmux", "/usr/bin/tmux"),
    ("tshark", "/usr/bin/tshark"),
    ("user-mode-linux", "/usr/bin/linux.uml"),
    ("util-linux", "/usr/bin/setpriv"),
];

/// What one lab needs besides, which is much: only that lab installs it.
const TOMCAT: &[(&str, &str)] = &[("tomcat10", "/usr/share/tomcat10/bin/catalina.sh")];

/// How often a command that takes long is said to go on.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Stops packages from starting their services while they are installed (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing. Says what; nothing is missing on the second run.
pub(crate) fn install() -> Result<()> {
    ensure!(
        is_root()?,
        "this needs root: it makes network namespaces and installs Debian packages"
    );
    install_all(PACKAGES)
}

/// Installs Tomcat, for its lab.
pub(crate) fn tomcat() -> Result<()> {
    install_all(TOMCAT)
}

fn install_all(packages: &[(&'static str, &str)]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!(
        "installing Debian packages: {}",
        missing.join(" ")
    ));
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    let policy = Policy::deny()?;
    let mut install = Command::new("apt-get");
    install.args([
        "-qq",
        "-y",
        "-o",
        "Dpkg::Use-Pty=0",
        "install",
        "--no-install-recommends",
    ]);
    let result = run(install
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive"));
    drop(policy);
    result
}

/// A TOML language server, for the test of the JSON Schema. Debian has none; PyPI's package holds the
/// program.
const TOMBI: &str = "tombi==1.9.6";

/// Fetches it once.
pub(crate) fn language_server(cache: &Path) -> Result<()> {
    let folder = cache.join("tombi");
    if folder.join("bin/tombi").exists() {
        return Ok(());
    }
    say(&format!("fetching a TOML language server: {TOMBI}"));
    let mut fetch = Command::new("/usr/bin/python3");
    fetch.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
    fetch.args(["--only-binary", ":all:", "--target"]);
    run(fetch.arg(&folder).arg(TOMBI))
}

/// Debian's kernel, unpacked beside the build and never installed.
pub(crate) struct Kernel {
    /// The kernel image.
    pub(crate) image: PathBuf,
    /// The folder `lib/modules/VERSION`.
    pub(crate) modules: PathBuf,
    /// The version, as `uname -r` gives it in the guest.
    pub(crate) version: String,
}

/// Fetches the kernel once; later runs use what is there.
pub(crate) fn kernel(cache: &Path) -> Result<Kernel> {
    let unpacked = cache.join("kernel");
    if !unpacked.join("complete").exists() {
        let package = kernel_package()?;
        say(&format!(
            "fetching Debian's kernel for the guest: {package}"
        ));
        let download = cache.join("download");
        for folder in [&unpacked, &download] {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
            fs::create_dir_all(folder)?;
        }
        let fetch = |package: &str| {
            let mut fetch = Command::new("apt-get");
            // apt's own user need not be able to write below a developer's home.
            fetch.args(["-qq", "-o", "APT::Sandbox::User=root", "download", package]);
            run(fetch.current_dir(&download))
        };
        if fetch(&package).is_err() {
            // The archive keeps the newest kernel only: old lists name one that is gone.
            run(Command::new("apt-get").args(["-qq", "update"]))?;
            fetch(&kernel_package()?)?;
        }
        let archive = only_entry(&download)?;
        run(Command::new("dpkg").arg("-x").arg(&archive).arg(&unpacked))?;
        let version = version_of(&unpacked)?;
        // A merged-usr package keeps its modules under /usr/lib; depmod wants BASE/lib/modules.
        if !unpacked.join("lib").exists() {
            std::os::unix::fs::symlink("usr/lib", unpacked.join("lib"))?;
        }
        run(Command::new("depmod")
            .arg("-b")
            .arg(&unpacked)
            .arg(&version))?;
        fs::remove_dir_all(&download)?;
        fs::write(unpacked.join("complete"), "")?;
    }
    let version = version_of(&unpacked)?;
    Ok(Kernel {
        image: unpacked.join("boot").join(format!("vmlinuz-{version}")),
        modules: unpacked.join("lib/modules").join(&version),
        version,
    })
}

/// Whether the running kernel has IPVS, loading it where it is a module.
pub(crate) fn running_kernel_has_ipvs() -> bool {
    let quiet = || Stdio::null();
    let _ = Command::new("modprobe")
        .args(["-q", "ip_vs"])
        .stdout(quiet())
        .stderr(quiet())
        .status();
    Path::new("/proc/net/ip_vs").exists()
}

/// The package that the newest `linux-image-amd64` depends on.
fn kernel_package() -> Result<String> {
    let known = || -> Result<Option<String>> {
        let output = Command::new("apt-cache")
            .args(["depends", "linux-image-amd64"])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let depends = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(depends
            .filter(|package| package.starts_with("linux-image-"))
            .map(str::to_owned)
            .next())
    };
    if let Some(package) = known()? {
        return Ok(package);
    }
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    known()?.context("apt knows no linux-image-amd64; is this an amd64 Debian?")
}

fn version_of(unpacked: &Path) -> Result<String> {
    for modules in ["lib/modules", "usr/lib/modules"] {
        if unpacked.join(modules).is_dir() {
            let folder = only_entry(&unpacked.join(modules))?;
            let name = folder
                .file_name()
                .context("a folder of modules has a name")?;
            return Ok(name.to_string_lossy().into_owned());
        }
    }
    bail!("the kernel package has no modules")
}

fn only_entry(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder)?;
    let first = entries
        .next()
        .with_context(|| format!("{} is empty", folder.display()))??;
    Ok(first.path())
}

/// Runs a command quietly; its output is shown if it fails, and that it goes on while it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let name = program.clone();
    let ticker = std::thread::spawn(move || {
        let start = Instant::now();
        while ended.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
            say(&format!(
                "  {name} goes on, {} s",
                start.elapsed().as_secs()
            ));
        }
    });
    let output = command.stdin(Stdio::null()).output();
    drop(done);
    let _ = ticker.join();
    let output = output.with_context(|| format!("{program} cannot be run"))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!("{command:?} failed:\n{}", String::from_utf8_lossy(&text));
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .context("id cannot be run")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

struct Policy {
    ours: bool,
}

impl Policy {
    fn deny() -> Result<Policy> {
        use std::os::unix::fs::PermissionsExt;
        if Path::new(POLICY).exists() {
            return Ok(Policy { ours: false });
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(Policy { ours: true })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}
