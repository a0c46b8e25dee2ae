//! The demo: a pair of directors at work, as a timeline with figures.
//!
//! Every step is judged by strangers: curl in the client, `ip`, `ipvsadm` and tcpdump. What vipd
//! says of itself is shown, never believed.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, URL, VIP, config};
use crate::director::Director;
use crate::nginx::Nginx;
use crate::{Lab, wait_for, wait_until};

/// How long anything may take before the step has failed. Emulated guests are slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests of a step that counts who answers.
const REQUESTS: usize = 20;

/// Runs all steps; `Ok(false)`: one was not seen to happen.
///
/// # Errors
///
/// The lab itself could not be made.
pub fn run(keep: bool) -> Result<bool> {
    let mut timeline = Timeline {
        start: Instant::now(),
        steps: Vec::new(),
    };
    timeline.say("client, two directors, two nginx real servers, one network: direct routing");
    let cluster = Cluster::new()?;
    let real_servers = cluster.start_real_servers()?;
    let directors = cluster.start_directors()?;
    let (rs1, rs2) = real_servers;
    let mut scene = Scene {
        cluster,
        _rs1: rs1,
        rs2: Some(rs2),
        directors: Some(directors),
    };
    let steps: [(&str, Step); 10] = [
        ("a master is elected, the VIP is up", Scene::comes_up),
        ("requests are spread over both real servers", Scene::spreads),
        ("one nginx is stopped", Scene::real_server_stops),
        ("it comes back", Scene::real_server_returns),
        ("the primary's cable is pulled", Scene::cable_pulled),
        ("the primary is back, and preempts", Scene::primary_returns),
        (
            "somebody types ipvsadm -C on the master",
            Scene::table_cleared,
        ),
        ("SIGHUP with a new weight", Scene::reload),
        ("SIGHUP with a broken file", Scene::broken_reload),
        ("both directors are stopped", Scene::stop),
    ];
    let count = if keep { steps.len() - 1 } else { steps.len() };
    for (name, step) in steps.into_iter().take(count) {
        let result = step(&mut scene);
        if !timeline.step(name, result) {
            timeline.say("the logs of the directors:");
            if let Some((lb1, lb2)) = &scene.directors {
                timeline.say(&format!("{}\n{}", lb1.log(), lb2.log()));
            }
            break;
        }
    }
    let all_seen = timeline.summary(count);
    if keep && all_seen {
        shell(&scene.cluster)?;
    }
    Ok(all_seen)
}

/// Brings the cluster up and opens a shell in the client.
///
/// # Errors
///
/// The lab could not be made.
pub fn open() -> Result<()> {
    say("client, two directors, two nginx real servers, one network: direct routing");
    let cluster = Cluster::new()?;
    let _real_servers = cluster.start_real_servers()?;
    let _directors = cluster.start_directors()?;
    cluster.wait_until_serving()?;
    shell(&cluster)
}

type Step = fn(&mut Scene) -> Result<Vec<String>>;

struct Scene {
    cluster: Cluster,
    _rs1: Nginx,
    rs2: Option<Nginx>,
    directors: Option<(Director, Director)>,
}

impl Scene {
    fn directors(&self) -> Result<&(Director, Director)> {
        self.directors.as_ref().context("the directors run")
    }

    fn comes_up(&mut self) -> Result<Vec<String>> {
        let took = self.holds("lb1")?;
        let served = self.cluster.wait_until_serving()?;
        Ok(vec![
            format!(
                "ip: {VIP} is on lb1 (priority 150), not on lb2, after {}",
                ms(took)
            ),
            format!(
                "curl: both real servers answer after another {}",
                ms(served)
            ),
        ])
    }

    fn spreads(&mut self) -> Result<Vec<String>> {
        let answers = self.cluster.requests(REQUESTS);
        ensure!(
            answers.lost == 0,
            "{} of {REQUESTS} requests were lost",
            answers.lost
        );
        ensure!(
            answers.rs1 > 0 && answers.rs2 > 0,
            "one real server got nothing: {answers:?}"
        );
        let on_both = [&self.cluster.lb1, &self.cluster.lb2].map(|lb| lb.weights());
        let [on_lb1, on_lb2] = on_both;
        ensure!(
            on_lb1?.len() == 2 && on_lb2?.len() == 2,
            "both directors hold the table"
        );
        Ok(vec![
            format!(
                "curl: of {REQUESTS} requests rs1 answered {}, rs2 {}",
                answers.rs1, answers.rs2
            ),
            "ipvsadm: both directors hold the service with both real servers".to_owned(),
        ])
    }

    fn real_server_stops(&mut self) -> Result<Vec<String>> {
        let rs2 = self.rs2.take().context("nginx runs on rs2")?;
        let start = Instant::now();
        rs2.stop()?;
        self.wait_for_table("10.77.0.22:80", None)?;
        let took = start.elapsed();
        let answers = self.cluster.requests(REQUESTS);
        ensure!(
            answers.lost == 0,
            "{} of {REQUESTS} requests were lost",
            answers.lost
        );
        ensure!(answers.rs2 == 0, "a stopped nginx answered");
        Ok(vec![
            format!(
                "ipvsadm: 10.77.0.22:80 left the pool {} after nginx was stopped",
                ms(took)
            ),
            format!("curl: of {REQUESTS} requests after that none was lost, rs1 answered all"),
        ])
    }

    fn real_server_returns(&mut self) -> Result<Vec<String>> {
        let start = Instant::now();
        self.rs2 = Some(Nginx::start(&self.cluster.rs2)?);
        self.wait_for_table("10.77.0.22:80", Some(1))?;
        let took = start.elapsed();
        let answers = self.cluster.requests(REQUESTS);
        ensure!(
            answers.lost == 0,
            "{} of {REQUESTS} requests were lost",
            answers.lost
        );
        ensure!(answers.rs2 > 0, "rs2 got nothing: {answers:?}");
        Ok(vec![
            format!(
                "ipvsadm: 10.77.0.22:80 is in the pool {} after nginx was started",
                ms(took)
            ),
            format!("curl: rs1 answered {}, rs2 {}", answers.rs1, answers.rs2),
        ])
    }

    fn cable_pulled(&mut self) -> Result<Vec<String>> {
        let cluster = &self.cluster;
        let capture = cluster.client.capture("arp")?;
        let (pulled, start) = (SystemTime::now(), Instant::now());
        cluster.lab.pull_cable(&cluster.lb1)?;
        let arp = gratuitous_arp(&capture, pulled, &cluster.lb2.mac()?)?;
        wait_until(PATIENCE, "the VIP on lb2", || cluster.lb2.has_address(VIP))?;
        wait_until(PATIENCE, "an answer", || {
            Ok(cluster.client.get(URL).is_some())
        })?;
        let answered = start.elapsed();
        wait_until(PATIENCE, "lb1 gives the VIP up", || {
            Ok(!cluster.lb1.has_address(VIP)?)
        })?;
        let answers = cluster.requests(REQUESTS);
        ensure!(
            answers.lost == 0,
            "{} of {REQUESTS} requests were lost",
            answers.lost
        );
        Ok(vec![
            format!(
                "tcpdump: gratuitous ARP for {VIP} from lb2 after {}",
                ms(arp)
            ),
            format!("curl: requests are answered again after {}", ms(answered)),
            format!("ip: {VIP} is on lb2, and lb1 has given it up"),
        ])
    }

    fn primary_returns(&mut self) -> Result<Vec<String>> {
        let cluster = &self.cluster;
        let capture = cluster.client.capture("arp")?;
        let (plugged, start) = (SystemTime::now(), Instant::now());
        cluster.lab.plug_cable(&cluster.lb1)?;
        let arp = gratuitous_arp(&capture, plugged, &cluster.lb1.mac()?)?;
        self.holds("lb1")?;
        let took = start.elapsed();
        let answers = self.cluster.requests(REQUESTS);
        ensure!(
            answers.lost == 0,
            "{} of {REQUESTS} requests were lost",
            answers.lost
        );
        Ok(vec![
            format!(
                "tcpdump: gratuitous ARP for {VIP} from lb1 after {}",
                ms(arp)
            ),
            format!("ip: {VIP} is on lb1 alone after {}", ms(took)),
            format!("curl: of {REQUESTS} requests none was lost"),
        ])
    }

    fn table_cleared(&mut self) -> Result<Vec<String>> {
        let lb1 = &self.cluster.lb1;
        let before = lb1.ipvsadm_save()?;
        // A resync may come before ipvsadm has looked; the next one is then far enough away.
        let start = wait_for(PATIENCE, "an empty table", || {
            let start = Instant::now();
            lb1.run("ipvsadm -C")?;
            Ok((lb1.ipvsadm_save()? != before).then_some(start))
        })?;
        wait_until(PATIENCE, "the table is as before", || {
            Ok(lb1.ipvsadm_save()? == before)
        })?;
        let took = start.elapsed();
        let answers = self.cluster.requests(REQUESTS);
        ensure!(
            answers.lost == 0,
            "{} of {REQUESTS} requests were lost",
            answers.lost
        );
        Ok(vec![
            format!("ipvsadm: the table was as before again after {}", ms(took)),
            format!("curl: of {REQUESTS} requests after that none was lost"),
        ])
    }

    fn reload(&mut self) -> Result<Vec<String>> {
        let start = Instant::now();
        self.directors()?.0.reload(&config("lb1", 150, 3))?;
        let lb1 = &self.cluster.lb1;
        wait_until(PATIENCE, "weight 3", || {
            Ok(lb1.weights()?.get("10.77.0.21:80") == Some(&3))
        })?;
        let took = start.elapsed();
        ensure!(self.cluster.holders()? == ["lb1"], "the VIP moved");
        let answers = self.cluster.requests(REQUESTS);
        ensure!(
            answers.lost == 0,
            "{} of {REQUESTS} requests were lost",
            answers.lost
        );
        ensure!(
            answers.rs1 > answers.rs2,
            "weight 3:1 is not to be seen: {answers:?}"
        );
        Ok(vec![
            format!("ipvsadm: 10.77.0.21:80 has weight 3 after {}", ms(took)),
            format!(
                "curl: rs1 answered {}, rs2 {}; ip: the VIP stayed",
                answers.rs1, answers.rs2
            ),
        ])
    }

    fn broken_reload(&mut self) -> Result<Vec<String>> {
        let before = self.cluster.lb1.ipvsadm_save()?;
        let lb1 = &self.directors()?.0;
        let broken = config("lb1", 150, 5).replace("priority", "priorty");
        lb1.reload(&broken)?;
        lb1.process().wait_for_output(PATIENCE, "reload refused")?;
        // Longer than a resync: whatever the broken file could have changed would be there.
        std::thread::sleep(Duration::from_secs(3));
        ensure!(
            self.cluster.lb1.ipvsadm_save()? == before,
            "the table changed"
        );
        ensure!(self.cluster.holders()? == ["lb1"], "the VIP moved");
        let answers = self.cluster.requests(REQUESTS);
        ensure!(
            answers.lost == 0,
            "{} of {REQUESTS} requests were lost",
            answers.lost
        );
        let log = lb1.log();
        let line = log
            .lines()
            .find(|line| line.contains("priorty"))
            .unwrap_or_default();
        Ok(vec![
            format!("vipd said: {}", line.rsplit('/').next().unwrap_or(line)),
            "ipvsadm: the table is as before; ip: the VIP stayed; curl: no request lost".to_owned(),
        ])
    }

    fn stop(&mut self) -> Result<Vec<String>> {
        let (lb1, lb2) = self.directors.take().context("the directors run")?;
        let start = Instant::now();
        lb1.stop()?;
        let stopped = start.elapsed();
        wait_until(PATIENCE, "the VIP on lb2", || {
            Ok(self.cluster.holders()? == ["lb2"])
        })?;
        let moved = start.elapsed();
        lb2.stop()?;
        ensure!(
            self.cluster.holders()?.is_empty(),
            "the VIP is still on a director"
        );
        for lb in [&self.cluster.lb1, &self.cluster.lb2] {
            let left = lb.ipvsadm_save()?;
            ensure!(left.is_empty(), "{} still has {left:?}", lb.name());
        }
        Ok(vec![
            format!(
                "ip: the VIP was on lb2 {} after lb1 was told to stop",
                ms(moved)
            ),
            format!(
                "lb1 took {} to stop; ip, ipvsadm: no VIP and no entry is left",
                ms(stopped)
            ),
        ])
    }

    /// Waits until one director alone has the VIP.
    fn holds(&self, name: &str) -> Result<Duration> {
        wait_until(PATIENCE, &format!("the VIP on {name} alone"), || {
            Ok(self.cluster.holders()? == [name])
        })
    }

    /// Waits until the master's table has a real server with that weight, or not at all.
    fn wait_for_table(&self, real_server: &str, weight: Option<u32>) -> Result<Duration> {
        let lb1 = &self.cluster.lb1;
        wait_until(
            PATIENCE,
            &format!("{real_server} with weight {weight:?}"),
            || Ok(lb1.weights()?.get(real_server).copied() == weight),
        )
    }
}

fn gratuitous_arp(
    capture: &crate::capture::Capture,
    since: SystemTime,
    mac: &str,
) -> Result<Duration> {
    let request = format!("who-has {VIP}");
    let tell = format!("tell {VIP}");
    let packet = capture.wait_for(PATIENCE, since, &[mac, &request, &tell])?;
    Ok(packet.at.duration_since(since).unwrap_or_default())
}

fn shell(cluster: &Cluster) -> Result<()> {
    let lab: &Lab = &cluster.lab;
    let prefix = lab.prefix();
    let folder = lab.folder().display();
    let vipctl = crate::binary("vipctl")?;
    let vipctl = vipctl.display();
    say(&format!(
        "
This is a shell in the client; leave it with `exit`, and everything is removed.
  curl {URL}                                               ask the real servers
  ip netns exec {prefix}lb1 ipvsadm -L -n                  the table of a director
  {vipctl} --socket {folder}/lb1.sock status
  cat {folder}/lb1-vipd.log
  ip -n {prefix}switch link set p-lb1 down                 pull the cable of lb1 (`up`: put it back)
  hosts: {prefix}{{client,lb1,lb2,rs1,rs2,switch}}
"
    ));
    let mut shell = Command::new("ip");
    shell.args([
        "netns",
        "exec",
        cluster.client.namespace(),
        "bash",
        "--norc",
        "-i",
    ]);
    shell.env("PS1", "client# ");
    // However the shell ends, the lab goes.
    shell.status().context("no shell")?;
    Ok(())
}

struct Timeline {
    start: Instant,
    /// What was seen of each step, in a line, and whether it was.
    steps: Vec<(String, bool)>,
}

impl Timeline {
    fn say(&self, text: &str) {
        say(&format!(
            "{:7.1} s  {text}",
            self.start.elapsed().as_secs_f64()
        ));
    }

    fn step(&mut self, name: &str, result: Result<Vec<String>>) -> bool {
        let number = self.steps.len() + 1;
        let seen = result.is_ok();
        self.say(&format!(
            "{number:2}. {name}: {}",
            if seen { "seen" } else { "NOT SEEN" }
        ));
        let lines = result.unwrap_or_else(|error| vec![format!("{error:#}")]);
        for line in &lines {
            say(&format!("               {line}"));
        }
        let figure = lines.into_iter().next().unwrap_or_default();
        self.steps.push((format!("{name}: {figure}"), seen));
        seen
    }

    fn summary(&self, wanted: usize) -> bool {
        let seen = self.steps.iter().filter(|(_, seen)| *seen).count();
        let seconds = self.start.elapsed().as_secs();
        say("\nsummary");
        for (number, (line, _)) in self.steps.iter().enumerate() {
            say(&format!("{:3}. {line}", number + 1));
        }
        say(&format!(
            "\ndemo: {seen} of {wanted} steps seen to happen, in {seconds} s"
        ));
        seen == wanted
    }
}

fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

#[allow(clippy::print_stdout, reason = "the output of the command")]
fn say(text: &str) {
    use std::io::Write;
    println!("{text}");
    let _ = std::io::stdout().flush();
}
