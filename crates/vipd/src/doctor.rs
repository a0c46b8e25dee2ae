//! `vipctl doctor` and `vipd doctor`: what usually breaks an LVS cluster, and how to mend it.
//!
//! In two steps: `facts` looks at this host and at its network, which changes nothing; then every group
//! of findings is a function of the configuration and of those facts. What one fault causes is not told
//! beside it (see `root_causes`).

mod arp;
pub mod catalogue;
mod checks;
mod facts;
mod firewall;
mod host;
mod ipvs;
mod page;
mod peer;
mod real_servers;
#[cfg(test)]
mod testbed;
mod vrrp;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::catalogue::Kind;
use self::facts::{Facts, beside};
use crate::config::{Config, Examined, LoadError, Problem};

pub use self::facts::Daemon;

/// How long the director may take to say which configuration is in force.
pub const FIRST: Duration = Duration::from_millis(1000);
/// All looks together, whatever hangs.
const LOOKING: Duration = Duration::from_millis(7600);
/// What follows from them.
const JUDGING: Duration = Duration::from_millis(500);
/// Longer than all of that.
pub const TIMEOUT: Duration = Duration::from_millis(9800);

/// How bad a finding is; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work, or will not at the next takeover.
    Error,
    /// It works, and may not for long.
    Warning,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The findings, the worst first.
    pub findings: Vec<Finding>,
    /// What could not be looked at, and why.
    pub not_looked_at: Vec<String>,
    /// How long it took, milliseconds.
    pub took_ms: u64,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its code (docs/doctor.md).
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: a virtual address, a virtual router, a real server, ...
    pub object: String,
    /// What it is, on one line.
    pub title: String,
    /// What was seen.
    pub evidence: Vec<String>,
    /// Why it matters.
    pub why: String,
    /// What mends it.
    pub remedy: Remedy,
}

/// What mends a finding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// In words.
    pub words: String,
    /// The host on which the command runs; `null`: this one.
    pub on: Option<String>,
    /// A command: the program and its arguments.
    pub command: Option<Vec<String>>,
    /// A key of the configuration.
    pub key: Option<Key>,
}

/// A key of the configuration, and what to write there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The table: `vrrp`, `virtual_server`, ...
    pub table: String,
    /// The name of the one that it is about; `null`: there is only one.
    pub name: Option<String>,
    /// The key.
    pub key: String,
    /// The value, as TOML.
    pub value: String,
}

impl Finding {
    fn new(
        kind: Kind,
        object: impl Into<String>,
        evidence: Vec<String>,
        remedy: Remedy,
    ) -> Finding {
        Finding {
            code: kind.code.to_owned(),
            severity: kind.severity,
            object: object.into(),
            title: kind.title.to_owned(),
            evidence,
            why: kind.why.to_owned(),
            remedy,
        }
    }

    fn is(&self, kind: Kind) -> bool {
        self.code == kind.code
    }
}

impl Remedy {
    fn words(words: impl Into<String>) -> Remedy {
        Remedy {
            words: words.into(),
            ..Remedy::default()
        }
    }

    /// A command; its words are separated by single spaces.
    fn command(self, line: &str) -> Remedy {
        self.run(line.split(' ').map(str::to_owned).collect())
    }

    fn run(self, command: Vec<String>) -> Remedy {
        Remedy {
            command: Some(command),
            ..self
        }
    }

    fn on(self, host: impl ToString) -> Remedy {
        Remedy {
            on: Some(host.to_string()),
            ..self
        }
    }

    fn key(self, table: &str, name: Option<&str>, key: &str, value: impl ToString) -> Remedy {
        let key = Key {
            table: table.to_owned(),
            name: name.map(str::to_owned),
            key: key.to_owned(),
            value: value.to_string(),
        };
        Remedy {
            key: Some(key),
            ..self
        }
    }
}

impl Report {
    /// For people: each finding with its evidence and its remedy, and a line that sums up.
    #[must_use]
    pub fn page(&self) -> String {
        page::render(self)
    }
}

/// Looks for what is wrong with the director that runs with this configuration, or would.
pub async fn examine(path: &Path, config: &Config, daemon: &Daemon) -> Report {
    let begin = Instant::now();
    let config = Arc::new(config.clone());
    let facts = Facts::gather(path, &config, daemon, begin + LOOKING).await;
    // Thousands of real servers take a while, and the director's runtime has better to do.
    let until = Instant::now() + JUDGING;
    let judged = beside("what follows", until, move || Ok(judge(&config, facts))).await;
    let (findings, not_looked_at) = judged.unwrap_or_else(|why| (Vec::new(), vec![why]));
    Report {
        findings,
        not_looked_at,
        took_ms: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

/// The findings, and what could not be looked at.
fn judge(config: &Config, facts: Facts) -> (Vec<Finding>, Vec<String>) {
    let mut findings = Vec::new();
    for group in [
        arp::findings,
        vrrp::findings,
        firewall::findings,
        real_servers::findings,
        host::findings,
        ipvs::findings,
        checks::findings,
        peer::findings,
    ] {
        findings.extend(group(config, &facts));
    }
    let mut unknown = firewall::beyond(config, &facts);
    findings.extend(facts.warnings.iter().map(of_lint));
    root_causes(&mut findings);
    findings.sort_by(|a, b| {
        let order = |it: &Finding| (it.severity, it.code.clone(), it.object.clone());
        order(a).cmp(&order(b))
    });
    unknown.splice(0..0, facts.unknown);
    (findings, unknown)
}

/// What is to be told of a file that cannot be used.
///
/// # Errors
///
/// It cannot be read.
pub fn unusable(error: &LoadError) -> Result<Report, String> {
    let LoadError::Invalid(problems) = error else {
        return Err(error.to_string());
    };
    let finding = |problem: &Problem| {
        let place = format!("{}:{}", problems.file_name(), problem.line);
        let said = format!("{place}: {}: {}", problem.key, problem.message);
        let remedy = Remedy::words(&problem.help);
        Finding::new(catalogue::INVALID, place, vec![said], remedy)
    };
    Ok(Report {
        findings: problems.iter().map(finding).collect(),
        not_looked_at: vec!["everything else: it needs a valid configuration".to_owned()],
        took_ms: 0,
    })
}

/// The warnings of `vipd check`, each with the code `CFG-` and its name.
fn of_lint(problem: &Problem) -> Finding {
    let name = problem.lint.unwrap_or("other");
    Finding {
        code: format!("CFG-{}", name.to_uppercase()),
        severity: Severity::Warning,
        object: problem.key.clone(),
        title: problem.message.clone(),
        evidence: vec![format!("line {} of the configuration", problem.line)],
        why: "it is valid, and hardly meant".to_owned(),
        remedy: Remedy::words(&problem.help),
    }
}

/// Leaves out what another finding explains: of the same virtual router or address, a firewall that
/// drops adverts makes two masters, and two masters hold an address twice.
fn root_causes(findings: &mut Vec<Finding>) {
    use catalogue as c;
    let explains: &[(Kind, &[Kind])] = &[
        (c::FIREWALL_IN, &[c::TWO_MASTERS, c::ARP_TWO_DIRECTORS]),
        (
            c::FIREWALL_OUT,
            &[c::TWO_MASTERS, c::ARP_TWO_DIRECTORS, c::ADVERTS_LOST],
        ),
        (
            c::ANNOUNCED_DIFFERENTLY,
            &[c::TWO_MASTERS, c::ARP_TWO_DIRECTORS, c::ADVERTS_LOST],
        ),
        (
            c::FOREIGN_VRID,
            &[c::TWO_MASTERS, c::ANNOUNCED_DIFFERENTLY, c::ARP_NOBODY],
        ),
        (
            c::OTHER_DAEMON,
            &[
                c::TWO_MASTERS,
                c::ARP_TWO_DIRECTORS,
                c::ANNOUNCED_DIFFERENTLY,
            ],
        ),
        (c::ADVERTS_LOST, &[c::TWO_MASTERS, c::ARP_TWO_DIRECTORS]),
        (c::TWO_MASTERS, &[c::ARP_TWO_DIRECTORS]),
        (c::SILENT, &[c::ARP_NOBODY, c::ARP_TWO_DIRECTORS]),
        (c::FAULT, &[c::ARP_NOBODY]),
        (c::DOES_NOT_ANSWER, &[c::ARP_NOBODY]),
        (
            c::UNREACHABLE,
            &[c::VIP_MISSING, c::TUNNEL_MISSING, c::NO_RETURN_PATH],
        ),
        (c::NO_IPVS, &[c::NO_SCHEDULER, c::REFUSED]),
        (c::NO_SCHEDULER, &[c::REFUSED]),
    ];
    let told: Vec<(String, String)> = findings
        .iter()
        .map(|it| (it.code.clone(), it.object.clone()))
        .collect();
    findings.retain(|finding| {
        let causes = explains
            .iter()
            .filter(|(_, effects)| effects.iter().any(|effect| finding.is(*effect)));
        let explained = |(cause, _): &(Kind, &[Kind])| {
            let same = |(code, object): &(String, String)| {
                code == cause.code && (*object == finding.object || is_global(*cause))
            };
            told.iter().any(same)
        };
        !causes.into_iter().any(explained)
    });
}

/// Whether what it causes may have another object.
fn is_global(cause: Kind) -> bool {
    use catalogue as c;
    [c::NO_IPVS, c::NO_SCHEDULER, c::SILENT].contains(&cause)
}

/// The warnings of the file; those that cannot be had are none.
fn warnings(path: &Path) -> Vec<Problem> {
    Examined::load(path)
        .map(|examined| examined.warnings.iter().cloned().collect())
        .unwrap_or_default()
}
