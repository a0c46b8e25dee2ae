//! Processes: how many of a name run, by `/proc`, once a second.
//!
//! Not the kernel's process connector: it tells every fork of the host to whoever listens, and loses
//! some when there are many. A scan costs a few microseconds for each process of the host; where that
//! adds up, scans are made less often.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open, openat};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Report, Reporter};

/// From one scan to the next, ...
pub(super) const PERIOD: Duration = Duration::from_secs(1);
/// ... and at least so many times as long as a scan takes: 2 % of a core.
const SHARE: u32 = 50;
/// What the kernel keeps of a name (`TASK_COMM_LEN`, without its zero byte).
const NAME_MAX: usize = 15;

/// Counts until nobody names anything any more.
pub(super) async fn keep_counting(
    mut names: watch::Receiver<BTreeSet<String>>,
    period: Duration,
    report: Reporter,
) {
    let mut told = BTreeMap::new();
    loop {
        let wanted = names.borrow_and_update().clone();
        told.retain(|name, _| wanted.contains(name));
        if wanted.is_empty() {
            match names.changed().await {
                Ok(()) => continue,
                Err(_closed) => return,
            }
        }
        let started = Instant::now();
        // A failed scan (no file descriptors left) says nothing about processes.
        if let Ok(Ok(counts)) = tokio::task::spawn_blocking(move || scan(wanted)).await {
            for (name, count) in counts {
                if told.insert(name.clone(), count) != Some(count) {
                    report(Report::Process { name, count });
                }
            }
        }
        let next = started + period.max(started.elapsed().saturating_mul(SHARE));
        tokio::select! {
            () = sleep_until(next) => {}
            changed = names.changed() => if changed.is_err() { return },
        }
    }
}

/// Counts the processes of each name.
fn scan(names: BTreeSet<String>) -> io::Result<BTreeMap<String, u32>> {
    let proc = open(
        "/proc",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut counts: BTreeMap<String, u32> = names.into_iter().map(|name| (name, 0)).collect();
    for entry in fs::read_dir("/proc")? {
        let id = entry?.file_name();
        let Some(id) = id.to_str().filter(|id| id.parse::<u32>().is_ok()) else {
            continue;
        };
        // One that has ended meanwhile is not counted.
        let Ok(comm) = read(&proc, &format!("{id}/comm")) else {
            continue;
        };
        let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
        for (name, count) in &mut counts {
            let name = name.as_bytes();
            if name.get(..NAME_MAX).unwrap_or(name) == comm && runs(&proc, id) {
                *count += 1;
            }
        }
    }
    Ok(counts)
}

/// A zombie keeps its name until it is reaped, but does nothing any more.
fn runs(proc: impl AsFd, id: &str) -> bool {
    let Ok(stat) = read(proc, &format!("{id}/stat")) else {
        return false;
    };
    // proc_pid_stat(5): `ID (NAME) STATE ...`, and the name may contain anything.
    let state = stat.rsplit(|byte| *byte == b')').next();
    !matches!(state, None | Some([b' ', b'Z' | b'X', ..]))
}

/// The beginning of a file of the process file system, which comes with one read.
fn read(proc: impl AsFd, path: &str) -> io::Result<Vec<u8>> {
    let file = openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = vec![0; 512];
    let length = rustix::io::read(&file, &mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::{Child, Command};
    use std::sync::Arc;

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn processes_of_a_name_are_counted_as_they_come_and_go() {
        let name = format!("vt{}", std::process::id());
        let program = Program::new(&name);
        let (wanted, names) = watch::channel(BTreeSet::new());
        let (sender, mut reports) = unbounded_channel();
        let counting = tokio::spawn(keep_counting(
            names,
            Duration::from_millis(50),
            Arc::new(move |report| drop(sender.send(report))),
        ));
        wanted.send_replace(BTreeSet::from([name.clone()]));
        assert_eq!(next(&mut reports, &name).await, 0);
        let first = program.run();
        assert_eq!(next(&mut reports, &name).await, 1);
        let second = program.run();
        assert_eq!(next(&mut reports, &name).await, 2);
        drop((first, second));
        assert_eq!(next(&mut reports, &name).await, 0);
        drop(wanted);
        counting.await.unwrap();
    }

    #[test]
    fn a_name_is_as_long_as_the_kernel_keeps_it() {
        let name = format!("vt{}-is-longer-than-the-kernel", std::process::id());
        let kept = name[..15].to_owned();
        let program = Program::new(&name);
        let _running = program.run();
        until_counted(&[&name, &kept], 1);
    }

    #[test]
    fn a_zombie_does_not_count() {
        let name = format!("vz{}", std::process::id());
        let program = Program::new(&name);
        let mut running = program.run();
        until_counted(&[&name], 1);
        running.0.kill().unwrap();
        until_counted(&[&name], 0);
        let id = running.0.id();
        let comm = fs::read_to_string(format!("/proc/{id}/comm")).unwrap();
        assert_eq!(comm.trim_end(), name, "nobody has reaped it");
    }

    fn until_counted(names: &[&str], expected: u32) {
        let names: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
        let begin = Instant::now();
        loop {
            let counts = scan(names.clone()).unwrap();
            if counts.values().all(|count| *count == expected) {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "{counts:?}");
        }
    }

    async fn next(reports: &mut UnboundedReceiver<Report>, expected: &str) -> u32 {
        match timeout(Duration::from_secs(10), reports.recv()).await {
            Ok(Some(Report::Process { name, count })) if name == expected => count,
            other => panic!("{other:?}"),
        }
    }

    /// sleep(1) under another name.
    struct Program(PathBuf);

    struct Run(Child);

    impl Program {
        fn new(name: &str) -> Program {
            let path = std::env::temp_dir().join(name);
            std::os::unix::fs::symlink("/usr/bin/sleep", &path).unwrap();
            Program(path)
        }

        fn run(&self) -> Run {
            let started = Command::new(&self.0).arg("60").spawn();
            Run(started.unwrap())
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            let _gone = fs::remove_file(&self.0);
        }
    }

    impl Drop for Run {
        fn drop(&mut self) {
            let _gone = self.0.kill();
            let _reaped = self.0.wait();
        }
    }
}
