//! `cargo xtask dist`: a Debian package and an RPM of one tree of files.
//!
//! The tree is laid out here and packed by `dpkg-deb` and `rpmbuild`; the scripts that run at installation are
//! those beside this file, and do what Debian's debhelper and Fedora's macros would have them do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::guest::workspace;
use crate::{provision, say};

const SUMMARY: &str = "load-balancer director: VRRP, IPVS and health checks in one daemon";
const DESCRIPTION: &str = "Two or more directors share virtual addresses by VRRP, keep the IPVS table of the kernel, and take\n\
                           real servers that fail their checks out of it. One file, no other daemon.";
const MAINTAINER: &str = "The vipd authors <vipd@localhost>";
const CONFIG: &str = "/etc/vipd/vipd.toml";

const POSTINST: &str = include_str!("dist/postinst");
const PRERM: &str = include_str!("dist/prerm");
const POSTRM: &str = include_str!("dist/postrm");
const SPEC: &str = include_str!("dist/vipd.spec");

/// How the programs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    Release,
    /// Quick to build, large: to try packages.
    Debug,
}

/// The packages of one revision.
pub(crate) struct Packages {
    pub(crate) deb: PathBuf,
    pub(crate) rpm: PathBuf,
}

/// `cargo xtask dist`.
pub(crate) fn dist(build: Build) -> Result<u8> {
    provision::install()?;
    compile(build)?;
    let packages = pack(build, 1)?;
    for path in [&packages.deb, &packages.rpm] {
        let size = fs::metadata(path)?.len() / 1024;
        say(&format!("{} ({size} KiB)", path.display()));
    }
    Ok(0)
}

/// Builds the programs and their pages.
pub(crate) fn compile(build: Build) -> Result<()> {
    let mut programs = Command::new("cargo");
    programs.args(["build", "--package", "vipd", "--bins"]);
    if build == Build::Release {
        programs.arg("--release");
    }
    let mut pages = Command::new("cargo");
    pages.args(["run", "--quiet", "--package", "pages"]);
    for command in [&mut programs, &mut pages] {
        let status = command.current_dir(workspace()).status();
        let status = status.context("cargo cannot be run")?;
        ensure!(status.success(), "{command:?} failed");
    }
    Ok(())
}

/// Packs what is built.
pub(crate) fn pack(build: Build, revision: u32) -> Result<Packages> {
    let target = target()?;
    let folder = target.join("dist");
    fs::create_dir_all(&folder)?;
    let built = target.join(match build {
        Build::Release => "release",
        Build::Debug => "debug",
    });
    let version = env!("CARGO_PKG_VERSION");
    let deb = folder.join(format!("vipd_{version}-{revision}_{}.deb", architecture()?));
    let tree = Tree::lay(
        &folder.join("deb"),
        &built,
        "usr/share/zsh/vendor-completions",
    )?;
    debian(&tree, build, &format!("{version}-{revision}"), &deb)?;
    let tree = Tree::lay(&folder.join("rpm"), &built, "usr/share/zsh/site-functions")?;
    let rpm = red_hat(&tree, &folder, version, revision)?;
    Ok(Packages { deb, rpm })
}

/// Where cargo builds: this program is in it.
fn target() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let target = here.ancestors().nth(2).context("no target folder")?;
    Ok(target.to_owned())
}

/// As Debian calls it.
fn architecture() -> Result<String> {
    let output = Command::new("dpkg").arg("--print-architecture").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The files of a package, as they are installed.
struct Tree(PathBuf);

impl Tree {
    fn lay(folder: &Path, built: &Path, zsh: &str) -> Result<Tree> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        let tree = Tree(folder.to_owned());
        let source = workspace();
        for program in ["vipd", "vipctl"] {
            let to = format!("usr/sbin/{program}");
            tree.copy(&built.join(program), &to, 0o755)?;
            let stripped = tree.0.join(&to);
            provision::run(Command::new("strip").arg("--strip-unneeded").arg(stripped))?;
        }
        for (name, to) in [
            ("vipd.sysusers", "usr/lib/sysusers.d/vipd.conf"),
            ("vipd.tmpfiles", "usr/lib/tmpfiles.d/vipd.conf"),
            ("scripts.conf", "usr/share/doc/vipd/examples/scripts.conf"),
        ] {
            tree.copy(&source.join("systemd").join(name), to, 0o644)?;
        }
        for unit in files(&source.join("systemd"), "service")? {
            tree.copy_into(&unit, "usr/lib/systemd/system")?;
        }
        tree.copy(&source.join("config/vipd.toml"), &CONFIG[1..], 0o640)?;
        for example in files(&source.join("config/examples"), "toml")? {
            tree.copy_into(&example, "usr/share/doc/vipd/examples")?;
        }
        tree.pages(zsh)?;
        tree.documents(&source)?;
        Ok(tree)
    }

    fn pages(&self, zsh: &str) -> Result<()> {
        let pages = workspace().join("target/pages");
        for page in files(&pages.join("man"), "")? {
            let section = page.extension().unwrap_or_default().to_string_lossy();
            self.compress(&page, &format!("usr/share/man/man{section}"))?;
        }
        for (shell, to) in [
            ("bash", "usr/share/bash-completion/completions"),
            ("zsh", zsh),
            ("fish", "usr/share/fish/vendor_completions.d"),
        ] {
            for file in files(&pages.join("completions").join(shell), "")? {
                self.copy_into(&file, to)?;
            }
        }
        Ok(())
    }

    /// Laid out as in the repository, so that what refers to another file finds it.
    fn documents(&self, source: &Path) -> Result<()> {
        let folder = "usr/share/doc/vipd";
        self.copy_into(&source.join("README.md"), folder)?;
        self.compress(&source.join("CHANGELOG.md"), folder)?;
        self.copy(
            &source.join("LICENSE"),
            &format!("{folder}/copyright"),
            0o644,
        )?;
        for document in files(&source.join("docs"), "md")? {
            self.copy_into(&document, &format!("{folder}/docs"))?;
        }
        for file in files(&source.join("docs/observability"), "")? {
            self.copy_into(&file, &format!("{folder}/docs/observability"))?;
        }
        Ok(())
    }

    fn copy_into(&self, from: &Path, folder: &str) -> Result<()> {
        let name = from.file_name().context("a file has a name")?;
        self.copy(from, &format!("{folder}/{}", name.to_string_lossy()), 0o644)
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let to = self.0.join(to);
        fs::create_dir_all(to.parent().context("it is in a folder")?)?;
        fs::copy(from, &to).with_context(|| from.display().to_string())?;
        Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
    }

    fn compress(&self, from: &Path, folder: &str) -> Result<()> {
        self.copy_into(from, folder)?;
        let name = from.file_name().context("a file has a name")?;
        let to = self.0.join(folder).join(name);
        provision::run(Command::new("gzip").args(["-9", "-n", "-f"]).arg(to))
    }
}

/// The files of a folder with that extension (empty: all), in order.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let has = path.extension().unwrap_or_default() == extension;
        if path.is_file() && (extension.is_empty() || has) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn debian(tree: &Tree, build: Build, version: &str, deb: &Path) -> Result<()> {
    let control = tree.0.join("DEBIAN");
    let sum = "find * -type f -not -path 'DEBIAN/*' -print0 | xargs -0 md5sum >../sums; du -ks . | cut -f1 >../size";
    let folder = tree.0.parent().context("it is in a folder")?;
    provision::run(Command::new("sh").args(["-c", sum]).current_dir(&tree.0))?;
    let size = fs::read_to_string(folder.join("size"))?;
    fs::create_dir_all(&control)?;
    fs::rename(folder.join("sums"), control.join("md5sums"))?;
    fs::remove_file(folder.join("size"))?;
    let description = DESCRIPTION.replace('\n', "\n ");
    fs::write(
        control.join("control"),
        format!(
            "Package: vipd\nVersion: {version}\nArchitecture: {}\nMaintainer: {MAINTAINER}\nSection: net\n\
             Priority: optional\nInstalled-Size: {}\nDepends: libc6 (>= 2.34), libgcc-s1, systemd, passwd\n\
             Recommends: nftables, kmod\nSuggests: prometheus\nDescription: {SUMMARY}\n {description}\n",
            architecture()?,
            size.trim(),
        ),
    )?;
    fs::write(control.join("conffiles"), format!("{CONFIG}\n"))?;
    for (name, script) in [("postinst", POSTINST), ("prerm", PRERM), ("postrm", POSTRM)] {
        let path = control.join(name);
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--build", "--root-owner-group"]);
    pack.args(match build {
        Build::Release => ["-Zxz", "-z6"],
        Build::Debug => ["-Zgzip", "-z1"],
    });
    provision::run(pack.arg(&tree.0).arg(deb))
}

fn red_hat(tree: &Tree, folder: &Path, version: &str, revision: u32) -> Result<PathBuf> {
    let top = folder.join("rpmbuild");
    fs::create_dir_all(&top)?;
    let mut list = Command::new("find");
    let listed = list
        .args([".", "-type", "f", "-printf", "/%P\n"])
        .current_dir(&tree.0);
    let listed = String::from_utf8(listed.output()?.stdout)?;
    let mut paths: Vec<String> = listed.lines().map(entry).collect();
    paths.sort();
    let spec = SPEC
        .replace("@VERSION@", version)
        .replace("@RELEASE@", &revision.to_string())
        .replace("@SUMMARY@", SUMMARY)
        .replace("@DESCRIPTION@", DESCRIPTION)
        .replace("@TREE@", &tree.0.to_string_lossy())
        .replace("@FILES@", &paths.join("\n"));
    let path = top.join("vipd.spec");
    fs::write(&path, spec)?;
    let mut build = Command::new("rpmbuild");
    build.args(["-bb", "--quiet", "--define"]);
    build.arg(format!("_topdir {}", top.display()));
    build.args(["--define", &format!("_rpmdir {}", folder.display())]);
    build.args([
        "--define",
        "_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
    ]);
    provision::run(build.arg(&path))?;
    let architecture = std::env::consts::ARCH;
    fs::remove_dir_all(&top)?;
    Ok(folder.join(format!("vipd-{version}-{revision}.{architecture}.rpm")))
}

/// A line of the spec's list of files.
fn entry(path: &str) -> String {
    if path == CONFIG {
        format!("%attr(0640, root, root) %config(noreplace) {path}")
    } else if path.starts_with("/usr/share/doc/") {
        format!("%doc {path}")
    } else {
        path.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A host with systemd and without any of its effects: its commands only write down what they were told.
    struct Host(PathBuf);

    const STUB: &str = r#"#!/bin/sh
echo "${0##*/} $*" >>"$CALLS"
case "${0##*/} $*" in
"systemctl is-active"*) exit "$INACTIVE" ;;
"systemctl list-units"*) echo "vipd@red.service loaded active running an instance" ;;
"vipctl "*)
	count=$(grep -c "^vipctl $*\$" "$CALLS")
	[ "$count" -gt "$FAILURES" ]
	;;
esac
"#;

    impl Host {
        fn new(name: &str) -> Host {
            let id = std::process::id();
            let host = Host(std::env::temp_dir().join(format!("xtask-{name}-{id}")));
            fs::create_dir_all(&host.0).unwrap();
            for command in [
                "systemctl",
                "vipctl",
                "systemd-sysusers",
                "systemd-tmpfiles",
                "deb-systemd-helper",
                "deb-systemd-invoke",
                "sleep",
            ] {
                let path = host.0.join(command);
                fs::write(&path, STUB).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            host
        }

        /// What a script does: its commands in order.
        fn calls(
            &self,
            script: &str,
            arguments: &[&str],
            failures: u32,
            active: bool,
        ) -> Vec<String> {
            let calls = self.0.join("calls");
            fs::write(&calls, "").unwrap();
            let script = script.replace("/run/systemd/system", &self.0.to_string_lossy());
            let path = format!("{}:/usr/bin:/bin", self.0.display());
            let mut shell = Command::new("sh");
            shell.args(["-c", &script, "script"]).args(arguments);
            shell.env("PATH", path).env("CALLS", &calls);
            shell.env("FAILURES", failures.to_string());
            let status = shell
                .env("INACTIVE", if active { "0" } else { "3" })
                .status();
            assert!(status.unwrap().success(), "{script}");
            let calls = fs::read_to_string(calls).unwrap();
            calls.lines().map(str::to_owned).collect()
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A scriptlet of the RPM, as rpm runs it.
    fn scriptlet(name: &str) -> String {
        let (_, rest) = SPEC.split_once(&format!("\n%{name}\n")).unwrap();
        let lines = rest.lines().take_while(|line| !line.starts_with('%'));
        lines.collect::<Vec<_>>().join("\n").replace("%%", "%")
    }

    /// What became of units, in words that both packages share.
    fn outcome(calls: &[String]) -> BTreeSet<String> {
        let known = calls.iter().filter_map(|call| {
            let words: Vec<&str> = call.split(' ').collect();
            let units = || words.iter().filter(|word| word.ends_with(".service"));
            let mut verbs = ["try-restart", "restart", "stop", "--now"].into_iter();
            let verb = verbs.find(|verb| words.contains(verb))?;
            let verb = verb.replace("--now", "stop").replace("try-", "");
            Some(
                units()
                    .map(move |unit| format!("{verb} {unit}"))
                    .collect::<Vec<_>>(),
            )
        });
        let vipctl = calls.iter().filter(|call| call.starts_with("vipctl "));
        known.flatten().chain(vipctl.cloned()).collect()
    }

    #[test]
    fn every_script_is_one() {
        let scriptlets = ["post", "preun", "postun"].map(scriptlet);
        let scripts = [POSTINST, PRERM, POSTRM].map(str::to_owned);
        for script in scripts.iter().chain(&scriptlets) {
            assert!(script.lines().count() > 3, "{script}");
            for shell in ["bash", "dash"] {
                let status = Command::new(shell).args(["-n", "-c", script]).status();
                assert!(status.unwrap().success(), "{shell}: {script}");
            }
        }
    }

    #[test]
    fn both_packages_make_the_user_and_start_nothing_anew_at_an_installation() {
        let host = Host::new("installation");
        let deb = host.calls(POSTINST, &["configure", ""], 0, false);
        let rpm = host.calls(&scriptlet("post"), &["1"], 0, false);
        for calls in [&deb, &rpm] {
            for call in [
                "systemd-sysusers vipd.conf",
                "systemd-tmpfiles --create vipd.conf",
            ] {
                assert!(calls.iter().any(|it| it == call), "{calls:?}");
            }
            assert!(
                calls.iter().any(|it| it.ends_with("daemon-reload")),
                "{calls:?}"
            );
        }
        // Debian starts what it installs, Red Hat leaves that to its presets.
        assert!(deb.contains(&"deb-systemd-invoke start vipd.service".to_owned()));
        assert!(rpm.contains(&"systemctl --no-reload preset vipd.service".to_owned()));
    }

    #[test]
    fn both_packages_upgrade_without_a_failover_and_by_a_restart_where_that_fails() {
        let host = Host::new("upgrade");
        let both = |failures| {
            let deb = host.calls(POSTINST, &["configure", "0.0.1-1"], failures, true);
            let rpm = [
                host.calls(&scriptlet("post"), &["2"], failures, true),
                host.calls(&scriptlet("preun"), &["1"], failures, true),
                host.calls(&scriptlet("postun"), &["1"], failures, true),
            ];
            let (deb, rpm) = (outcome(&deb), outcome(&rpm.concat()));
            assert_eq!(deb, rpm);
            deb.into_iter().collect::<Vec<_>>()
        };
        let upgrades = [
            "vipctl --socket /run/vipd-red/control.sock upgrade",
            "vipctl upgrade",
        ];
        let restarts = ["restart vipd.service", "restart vipd@red.service"];
        assert_eq!(both(0), upgrades);
        // Something was under way.
        assert_eq!(both(2), upgrades);
        assert_eq!(both(3), [restarts, upgrades].concat());
        // Who stopped it wants no more than that.
        let rpm = host.calls(&scriptlet("postun"), &["1"], 0, false);
        assert!(!outcome(&rpm).contains("vipctl upgrade"), "{rpm:?}");
    }

    #[test]
    fn both_packages_stop_everything_before_they_go() {
        let host = Host::new("removal");
        let deb = outcome(&host.calls(PRERM, &["remove"], 0, true));
        let rpm = outcome(&host.calls(&scriptlet("preun"), &["0"], 0, true));
        assert_eq!(deb, rpm);
        let units = ["vipd", "vipd-realserver", "vipd-realserver-watch", "vipd@*"];
        assert_eq!(deb, units.map(|unit| format!("stop {unit}.service")).into());
        // And nothing before an upgrade.
        assert!(
            host.calls(PRERM, &["upgrade", "0.0.2-1"], 0, true)
                .is_empty()
        );
        assert!(host.calls(&scriptlet("preun"), &["1"], 0, true).is_empty());
        // What is left of the RPM's is no upgrade.
        let rpm = outcome(&host.calls(&scriptlet("postun"), &["0"], 0, true));
        assert!(rpm.is_empty(), "{rpm:?}");
    }
}
