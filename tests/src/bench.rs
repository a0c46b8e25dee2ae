//! The benchmark of the advert path, of many health checks and of large IPVS tables: vipd and keepalived, side by side in one
//! run, on namespaces of this machine. What counts is the ratio; figures of two machines do not compare.

mod checks;
mod failover;
mod handover;
mod ipvs;
mod load;
mod observe;
mod subject;
mod table;

use anyhow::{Result, bail};

/// A measured value of both.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) vipd: f64,
    /// `None`: it has no such thing.
    pub(crate) keepalived: Option<f64>,
    /// What theory or a plain system call takes.
    pub(crate) floor: Option<f64>,
}

type Bench = fn() -> Result<Vec<Line>>;

const BENCHES: [(&str, &str, Bench); 10] = [
    (
        "failover",
        "the master's cable is pulled: silence until the other one advertises",
        failover::run,
    ),
    (
        "handover",
        "a client sends 1,000 packets a second while the master is stopped",
        handover::run,
    ),
    (
        "adverts",
        "255 virtual routers at 10 ms on one interface",
        load::fast_adverts,
    ),
    (
        "addresses",
        "10,000 virtual addresses on 50 routers at 1 s",
        load::many_addresses,
    ),
    (
        "routers",
        "1,000 virtual routers at 1 s on four interfaces",
        load::many_routers,
    ),
    (
        "checks",
        "ten thousand health checks, by the runner alone",
        checks::run,
    ),
    (
        "tcp-checks",
        "six thousand health checks and their table (needs a kernel with IPVS)",
        checks::beside_keepalived,
    ),
    (
        "verdicts",
        "a real server fails: how soon it is out, at worst (needs a kernel with IPVS)",
        checks::verdicts,
    ),
    (
        "ipvs",
        "large tables of services and real servers (needs a kernel with IPVS)",
        ipvs::run,
    ),
    (
        "observe",
        "status and a scrape of ten thousand real servers (needs a kernel with IPVS)",
        observe::run,
    ),
];

/// Runs the benchmarks of these names, or all.
///
/// # Errors
///
/// An unknown name, or a lab that could not be made.
pub fn run(names: &[String]) -> Result<()> {
    for name in names {
        if !BENCHES.iter().any(|(known, _, _)| known == name) {
            let known: Vec<&str> = BENCHES.iter().map(|(known, _, _)| *known).collect();
            bail!(
                "there is no benchmark {name:?}; there is {}",
                known.join(", ")
            );
        }
    }
    for (name, about, bench) in BENCHES {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        let needs_ipvs = ["ipvs", "tcp-checks", "verdicts", "observe"].contains(&name);
        if names.is_empty() && needs_ipvs && !ipvs::is_possible() {
            print(&format!(
                "\n{name}: left out, this kernel has no IPVS (`cargo xtask guest` has)"
            ));
            continue;
        }
        print(&format!("\n{name}: {about}"));
        print(&format!(
            "  {:<44} {:>11} {:>11} {:>11} {:>7}",
            "", "vipd", "keepalived", "floor", "ratio"
        ));
        for line in bench()? {
            print(&line.to_string());
        }
    }
    Ok(())
}

/// Prints what one `sendto` of an advert takes on this host, in microseconds.
///
/// # Errors
///
/// No raw socket.
pub fn raw_send() -> Result<()> {
    print(&load::send_adverts()?.to_string());
    Ok(())
}

/// Prints the seconds that the kernel takes for an IPVS table, and for a change of all its weights.
///
/// # Errors
///
/// The kernel refuses something.
pub fn raw_table(services: u32, servers: u32) -> Result<()> {
    let [made, changed] = table::apply(services, servers)?;
    print(&format!("{made} {changed}"));
    Ok(())
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.3}"));
        let what = format!("{}, {}", self.what, self.unit);
        let ratio = self.keepalived.filter(|other| *other > 0.0);
        write!(
            f,
            "  {what:<44} {:>11} {:>11} {:>11} {:>7}",
            number(Some(self.vipd)),
            number(self.keepalived),
            number(self.floor),
            ratio.map_or("-".to_owned(), |other| format!("{:.2}", self.vipd / other)),
        )
    }
}

/// Pairs the lines of both into one list.
pub(crate) fn side_by_side(
    vipd: Vec<(String, &'static str, f64)>,
    keepalived: &[(String, &'static str, f64)],
) -> Vec<Line> {
    vipd.into_iter()
        .map(|(what, unit, value)| {
            let other = keepalived.iter().find(|(name, _, _)| *name == what);
            Line {
                keepalived: other.map(|(_, _, value)| *value),
                what,
                unit,
                vipd: value,
                floor: None,
            }
        })
        .collect()
}

pub(crate) fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[allow(clippy::print_stdout, reason = "the result of the command")]
fn print(text: &str) {
    use std::io::Write;
    println!("{text}");
    let _ = std::io::stdout().flush();
}
