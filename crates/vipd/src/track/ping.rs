//! Reference addresses: whether any of them answers a ping.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use health::{Echo, Route};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Report, Reporter};
use crate::config::Reachable;

/// A shorter interval counts as this one, so that no mistake makes a busy loop.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
/// What came of asking every address once.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    Answered,
    Silent,
    /// This host could not ask (no file descriptors left): that says nothing about the others.
    NotAsked,
}

/// Asks the reference addresses of a virtual router over and over: one answer is enough, and `fall`
/// rounds without any are loss.
pub(super) async fn keep_asking(router: String, reachable: Reachable, report: Reporter) {
    let mut told = None;
    let mut silent = 0_u32;
    let mut beat = interval(reachable.interval.max(SHORTEST_INTERVAL));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let ok = match ask(&reachable.any_of, reachable.timeout).await {
            Round::Answered => {
                silent = 0;
                true
            }
            Round::Silent => {
                silent = silent.saturating_add(1);
                if silent < reachable.fall {
                    continue;
                }
                false
            }
            Round::NotAsked => continue,
        };
        if told != Some(ok) {
            told = Some(ok);
            let router = router.clone();
            report(Report::Reachable { router, ok });
        }
    }
}

/// All at once; ends with the first answer.
async fn ask(addresses: &[IpAddr], patience: Duration) -> Round {
    let mut echoes: FuturesUnordered<_> = addresses
        .iter()
        .map(|address| timeout(patience, echo(*address)))
        .collect();
    let mut round = Round::NotAsked;
    while let Some(result) = echoes.next().await {
        match result {
            Ok(Round::Answered) => return Round::Answered,
            Ok(Round::Silent) | Err(_) => round = Round::Silent,
            Ok(Round::NotAsked) => {}
        }
    }
    round
}

/// Sends an echo and waits for its answer, without end.
async fn echo(address: IpAddr) -> Round {
    let echo = match Echo::send(address, &Route::default()).await {
        Ok(echo) => echo,
        // No route is no answer.
        Err(failure) if failure.counts() => return Round::Silent,
        Err(_ours) => return Round::NotAsked,
    };
    // What speaks against it (unreachable) may be passing: the time is not over.
    while echo.answered().await.is_err() {}
    Round::Answered
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::sync::Arc;

    use rustix::thread::UnshareFlags;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    #[test]
    fn one_answer_is_enough_and_only_rounds_without_any_are_loss() {
        in_namespace(async |peer| {
            let reachable = Reachable {
                any_of: ["192.0.2.77", "10.99.0.3", "10.99.0.2", "2001:db8:99::2"]
                    .map(|address| address.parse().unwrap())
                    .to_vec(),
                interval: Duration::from_millis(50),
                timeout: Duration::from_millis(40),
                fall: 3,
            };
            let (sender, mut reports) = unbounded_channel();
            let asking = tokio::spawn(keep_asking(
                "web".to_owned(),
                reachable,
                Arc::new(move |report| drop(sender.send(report))),
            ));
            assert!(next(&mut reports).await);
            peer.ignores_echo(4, true);
            let other = timeout(Duration::from_millis(300), reports.recv()).await;
            assert!(other.is_err(), "IPv6 answers still: {other:?}");
            let silenced = tokio::time::Instant::now();
            peer.ignores_echo(6, true);
            assert!(!next(&mut reports).await);
            assert!(silenced.elapsed() >= Duration::from_millis(90), "3 rounds");
            peer.ignores_echo(4, false);
            assert!(next(&mut reports).await);
            asking.abort();
        });
    }

    #[test]
    fn each_family_is_asked() {
        in_namespace(async |peer| {
            let ask = async |address: &str| {
                ask(&[address.parse().unwrap()], Duration::from_millis(200)).await
            };
            assert_eq!(ask("10.99.0.2").await, Round::Answered);
            assert_eq!(ask("2001:db8:99::2").await, Round::Answered);
            peer.ignores_echo(4, true);
            peer.ignores_echo(6, true);
            assert_eq!(ask("10.99.0.2").await, Round::Silent);
            assert_eq!(ask("2001:db8:99::2").await, Round::Silent);
            assert_eq!(ask("192.0.2.77").await, Round::Silent, "no route");
        });
    }

    async fn next(reports: &mut UnboundedReceiver<Report>) -> bool {
        match timeout(Duration::from_secs(10), reports.recv()).await {
            Ok(Some(Report::Reachable { ok, .. })) => ok,
            other => panic!("{other:?}"),
        }
    }

    /// A neighbour at the other end of a cable: 10.99.0.2 and 2001:db8:99::2. Its namespace lives as
    /// long as the process in it.
    struct Peer(Child);

    impl Peer {
        fn new() -> Peer {
            let mut sleep = Command::new("unshare");
            let peer = Peer(sleep.args(["--net", "sleep", "60"]).spawn().unwrap());
            let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
            let link = format!("/proc/{}/ns/net", peer.0.id());
            while std::fs::read_link(&link).unwrap() == own {
                std::thread::yield_now();
            }
            run(&format!(
                "ip link add e0 type veth peer name e0 netns {}",
                peer.0.id()
            ));
            for command in addressing(1) {
                run(&command);
            }
            for command in addressing(2) {
                peer.run(&command);
            }
            peer
        }

        fn run(&self, command: &str) {
            run(&format!("nsenter --net --target {} {command}", self.0.id()));
        }

        fn ignores_echo(&self, family: u8, ignores: bool) {
            let name = if family == 4 {
                "net.ipv4.icmp_echo_ignore_all"
            } else {
                "net.ipv6.icmp.echo_ignore_all"
            };
            self.run(&format!("sysctl -qw {name}={}", u8::from(ignores)));
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

    fn run(command: &str) {
        let mut words = command.split(' ');
        let mut program = Command::new(words.next().unwrap());
        let output = program.args(words).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {errors}");
    }

    /// Runs a test on a thread of its own in a network namespace of its own, with a neighbour.
    fn in_namespace(test: impl AsyncFnOnce(&Peer) + Send + 'static) {
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
            runtime.block_on(async {
                // For a moment after the link is up, IPv6 does not work yet.
                let patience = Duration::from_millis(100);
                for family in ["10.99.0.2", "2001:db8:99::2"] {
                    let address = [family.parse().unwrap()];
                    let mut tries = 0;
                    while ask(&address, patience).await != Round::Answered {
                        tries += 1;
                        assert!(tries < 100, "{family} never answers");
                    }
                }
                test(&peer).await;
            });
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}
