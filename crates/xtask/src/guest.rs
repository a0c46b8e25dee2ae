//! A guest with a kernel that has IPVS, over this machine's own files.
//!
//! The kernel is Debian's, the machine is qemu's without KVM (nested KVM hangs), the root is this
//! machine's `/` by 9p with a layer in memory on top: every program that is installed here is there
//! too, and nothing that the guest writes stays. What is to be kept goes to `/out`.

use std::fs;
use std::io::{ErrorKind, IsTerminal};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::provision::{self, Kernel};
use crate::say;

/// Modules that the guest needs before it can see its root. The rest is loaded from there.
const BOOT_MODULES: [&str; 6] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "virtio_console",
    "virtio_rng",
];

/// Modules that scenarios need and the kernel does not load by itself.
const LAB_MODULES: &str = "crc32c_generic ip_vs ip_vs_rr ip_vs_wlc ipip ip_gre ip6_tunnel fou dummy veth bridge macvlan nf_tables";

/// Where the guest's console goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// Output to our standard output, no input.
    Output,
    /// Our terminal, if we have one.
    Inherit,
}

/// A guest that can be booted.
pub(crate) struct Guest {
    /// Held while the guest's files are in use: two guests would take each other's.
    _alone: UnixListener,
    cache: PathBuf,
    kernel: Kernel,
    initramfs: PathBuf,
}

impl Guest {
    /// Fetches the kernel and makes the initial file system.
    pub(crate) fn prepare() -> Result<Guest> {
        let cache = workspace().join("target/lab");
        fs::create_dir_all(cache.join("out"))?;
        let alone = alone(&cache)?;
        let kernel = provision::kernel(&cache)?;
        let initramfs = initramfs(&cache, &kernel)?;
        Ok(Guest {
            _alone: alone,
            cache,
            kernel,
            initramfs,
        })
    }

    /// Boots, runs the shell command as root in the workspace, and ends the guest. Returns the
    /// command's exit status. A guest that runs longer than `limit` is ended: that is an error.
    pub(crate) fn run(
        &self,
        command: &str,
        terminal: Terminal,
        limit: Option<Duration>,
    ) -> Result<u8> {
        let out = self.cache.join("out");
        let status = out.join("status");
        let _ = fs::remove_file(&status);
        let interactive = terminal == Terminal::Inherit && std::io::stdin().is_terminal();
        fs::write(out.join("run.sh"), self.run_script(command, interactive))?;
        let log = self.cache.join("guest.log");
        let mut qemu = self.qemu(&log);
        let input = if interactive {
            Stdio::inherit()
        } else {
            Stdio::null()
        };
        let guest = qemu.stdin(input).spawn().context("qemu cannot be run")?;
        let exit = wait(guest, limit)?;
        let Ok(code) = fs::read_to_string(&status) else {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            bail!(
                "the guest died ({exit}); the end of {}:\n{}",
                log.display(),
                tail.join("\n")
            );
        };
        code.trim()
            .parse()
            .with_context(|| format!("the guest's exit status is {code:?}"))
    }

    fn qemu(&self, log: &Path) -> Command {
        // qemu ends with us, however we end.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        if std::env::var_os("VIPD_LAB_KVM").is_some() {
            command.args(["-accel", "kvm", "-cpu", "host"]);
        } else {
            command.args(["-accel", "tcg,thread=multi", "-cpu", "max"]);
        }
        command.args([
            "-smp",
            "2",
            "-m",
            "2G",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
        ]);
        command.arg("-kernel").arg(&self.kernel.image);
        command.arg("-initrd").arg(&self.initramfs);
        command.args([
            "-append",
            // By the last word the lab knows that nobody minds what becomes of this kernel's clock.
            "console=ttyS0 quiet loglevel=4 panic=-1 tsc=reliable vipd.guest=1",
        ]);
        command.args(["-serial", &format!("file:{}", log.display())]);
        command.args([
            "-device",
            "virtio-serial-pci",
            "-device",
            "virtconsole,chardev=console",
        ]);
        command.args(["-chardev", "stdio,id=console,signal=off"]);
        command.args(["-device", "virtio-rng-pci"]);
        let share = |tag: &str, path: &Path, mode: &str| {
            let path = path.display();
            format!("local,path={path},mount_tag={tag},security_model=none,multidevs=remap{mode}")
        };
        command.args(["-virtfs", &share("host", Path::new("/"), ",readonly=on")]);
        command.args(["-virtfs", &share("out", &self.cache.join("out"), "")]);
        command
    }

    /// The first program on the real root.
    fn run_script(&self, command: &str, interactive: bool) -> String {
        let folder = workspace();
        let folder = quote_one(&folder.to_string_lossy());
        let size = terminal_size().filter(|_| interactive);
        let console = match size {
            Some((rows, columns)) => format!("stty sane rows {rows} cols {columns}; "),
            None => "stty raw -echo; ".to_owned(),
        };
        let environment: String = ["RUST_BACKTRACE", "VIPD_LOG", "CI", "TERM"]
            .iter()
            .filter_map(|key| Some((key, std::env::var(key).ok()?)))
            .map(|(key, value)| format!("export {key}={}\n", quote_one(&value)))
            .collect();
        // The console takes qemu's idea of its size, none, when it is opened: ours comes after that.
        let command = quote_one(&format!("{console}{command}"));
        format!(
            "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root\n\
             {environment}\
             hostname guest\n\
             ip link set lo up\n\
             for module in {LAB_MODULES}; do modprobe -q $module; done\n\
             cd {folder}\n\
             setsid --ctty --wait sh -c {command} </dev/hvc0 >/dev/hvc0 2>&1\n\
             echo $? >/out/status\n\
             sync\n\
             echo b >/proc/sysrq-trigger\n"
        )
    }
}

/// Waits for a guest to end, and ends it after the limit.
fn wait(mut guest: Child, limit: Option<Duration>) -> Result<ExitStatus> {
    let Some(limit) = limit else {
        return Ok(guest.wait()?);
    };
    let start = Instant::now();
    loop {
        if let Some(exit) = guest.try_wait()? {
            return Ok(exit);
        }
        if start.elapsed() > limit {
            guest.kill()?;
            guest.wait()?;
            bail!("the guest did not come to an end in {} s", limit.as_secs());
        }
        sleep(Duration::from_millis(200));
    }
}

/// Waits for other guests of this workspace to end. The name in the abstract namespace (unix(7))
/// goes with the process that holds it, however that ends.
fn alone(cache: &Path) -> Result<UnixListener> {
    let folder = fs::metadata(cache)?;
    let name = format!("vipd-guest-{}-{}", folder.dev(), folder.ino());
    let address = SocketAddr::from_abstract_name(name)?;
    let mut said = false;
    loop {
        match UnixListener::bind_addr(&address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if !said {
                    say("waiting for another guest of this workspace to end");
                    said = true;
                }
                sleep(Duration::from_millis(200));
            }
            result => return result.context("the lock of the guest's files"),
        }
    }
}

/// The workspace's top folder.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Words as one shell command.
pub(crate) fn quote(words: &[String]) -> String {
    words
        .iter()
        .map(|word| quote_one(word))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A word that the shell takes as it is.
pub(crate) fn quote_one(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn terminal_size() -> Option<(u16, u16)> {
    let output = Command::new("stty")
        .arg("size")
        .stdin(Stdio::inherit())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    Some((rows.parse().ok()?, columns.parse().ok()?))
}

/// The file system that the kernel starts with: busybox, a few modules, and a script that mounts
/// the real root.
fn initramfs(cache: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let folder = cache.join("initramfs");
    let archive = cache.join("initramfs.cpio");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    for name in [
        "bin", "modules", "proc", "sys", "dev", "host", "layer", "root",
    ] {
        fs::create_dir_all(folder.join(name))?;
    }
    fs::copy("/bin/busybox", folder.join("bin/busybox")).context("busybox-static is missing")?;
    let mut order = String::new();
    for path in boot_modules(cache, kernel)? {
        let name = path
            .file_name()
            .context("a module has a name")?
            .to_string_lossy()
            .into_owned();
        if !order.lines().any(|known| known == name) {
            fs::copy(&path, folder.join("modules").join(&name))?;
            order.push_str(&name);
            order.push('\n');
        }
    }
    fs::write(folder.join("modules/order"), order)?;
    let init = folder.join("init");
    fs::write(&init, init_script(kernel))?;
    provision::run(Command::new("chmod").arg("755").arg(&init))?;
    let pack = "find . | cpio --quiet -o -H newc";
    let packed = Command::new("sh")
        .args(["-c", pack])
        .current_dir(&folder)
        .output()?;
    if !packed.status.success() {
        bail!(
            "packing the initial file system: {}",
            String::from_utf8_lossy(&packed.stderr)
        );
    }
    fs::write(&archive, packed.stdout)?;
    Ok(archive)
}

fn boot_modules(cache: &Path, kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for module in BOOT_MODULES {
        let mut list = Command::new("modprobe");
        list.arg("-d")
            .arg(cache.join("kernel"))
            .args(["-S", &kernel.version]);
        let output = list.args(["--show-depends", module]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        paths.extend(
            text.lines()
                .filter_map(|line| line.strip_prefix("insmod "))
                .map(|path| PathBuf::from(path.trim())),
        );
    }
    Ok(paths)
}

fn init_script(kernel: &Kernel) -> String {
    let modules = quote_one(&kernel.modules.to_string_lossy());
    let version = &kernel.version;
    format!(
        "#!/bin/busybox sh\n\
         set -e\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sys /sys\n\
         mount -t devtmpfs dev /dev\n\
         while read module; do insmod /modules/$module; done </modules/order\n\
         options=trans=virtio,version=9p2000.L,msize=512000\n\
         mount -t 9p -o $options,cache=loose,ro host /host\n\
         mount -t tmpfs layer /layer\n\
         mkdir /layer/upper /layer/work\n\
         mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work root /root\n\
         mount -t proc proc /root/proc\n\
         mount -t sysfs sys /root/sys\n\
         mount -t devtmpfs dev /root/dev\n\
         mkdir -p /root/dev/pts /root/dev/shm /root/out /root/run /root/tmp\n\
         mount -t devpts -o ptmxmode=666 pts /root/dev/pts\n\
         mount -t tmpfs shm /root/dev/shm\n\
         mount -t tmpfs run /root/run\n\
         mount -t tmpfs -o mode=1777 tmp /root/tmp\n\
         mount -t 9p -o $options out /root/out\n\
         mkdir -p /root/lib/modules\n\
         mount -t tmpfs modules /root/lib/modules\n\
         mkdir /root/lib/modules/{version}\n\
         mount --bind /host{modules} /root/lib/modules/{version}\n\
         exec switch_root /root /bin/sh /out/run.sh\n"
    )
    .replace("/host'", "'/host")
}
