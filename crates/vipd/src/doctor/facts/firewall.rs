//! The packet filters of this host: nftables, which has the rules of iptables-nft, too, and the old
//! iptables where it has any.

mod iptables;
mod nft;

use serde_json::Value;
use tokio::time::Instant;

use super::{beside, programs};

/// What stands before the name of a chain of the old iptables.
const LEGACY: [(&str, &str); 2] = [
    ("iptables-legacy", "/proc/net/ip_tables_names"),
    ("ip6tables-legacy", "/proc/net/ip6_tables_names"),
];
/// Targets of iptables after which the next rule has its turn.
const GO_ON: [&str; 11] = [
    "LOG", "NFLOG", "MARK", "CONNMARK", "TRACE", "NOTRACK", "CT", "TOS", "DSCP", "SET", "AUDIT",
];

/// The rules.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Firewall {
    /// The chains.
    pub chains: Vec<Chain>,
}

/// A chain, with its rules.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Chain {
    /// Family, table and name, as nft has them: `inet filter input`. Of the old iptables: its program, table
    /// and name.
    pub name: String,
    /// `input`, `output`, `prerouting`, ...; empty: it is jumped to.
    pub hook: String,
    /// The interfaces whose packets it sees; empty: of all.
    pub devices: Vec<String>,
    /// What is in no rule is dropped.
    pub drops: bool,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// A rule. One with a map of verdicts is here once for each of them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Rule {
    /// What to say of it.
    pub shown: String,
    /// The command that removes it.
    pub remove: Vec<String>,
    /// What it does.
    pub verdict: Verdict,
    /// What it asks for.
    pub matches: Vec<Match>,
    /// It asks for something else, too, that is not understood.
    pub more: bool,
    /// How many packets it counted; `None`: it does not count, or others, too.
    pub packets: Option<u64>,
}

/// A condition.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Match {
    /// `ip daddr`, `tcp dport`, `ct state`, ...
    pub field: String,
    /// The values, of sets each alone; a set that is not known is `@` and its name.
    pub values: Vec<String>,
    /// It must have none of them.
    pub not: bool,
}

#[cfg(test)]
impl Match {
    /// One that must have one of the values.
    pub(in crate::doctor) fn of(field: &str, values: &[&str]) -> Match {
        Match {
            field: field.to_owned(),
            values: values.iter().map(|it| (*it).to_owned()).collect(),
            not: false,
        }
    }
}

/// What a rule does.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::doctor) enum Verdict {
    /// Drop or reject.
    Drop,
    /// Accept.
    Accept,
    /// Another chain of the table has its turn, then the next rule.
    Jump(String),
    /// Another chain of the table has its turn in place of this one.
    Goto(String),
    /// The end of this chain.
    Return,
    /// What it does is not understood.
    Unknown,
    /// The next rule has its turn.
    #[default]
    Next,
}

impl Chain {
    /// The command that lets a protocol or an address through before all other rules.
    pub(in crate::doctor) fn accept(&self, words: &str) -> Vec<String> {
        let line = match self.legacy() {
            Some((program, table, chain)) => {
                format!("{program} -t {table} -I {chain} {words} -j ACCEPT")
            }
            None => format!("nft insert rule {} {words} accept", self.name),
        };
        line.split(' ').map(str::to_owned).collect()
    }

    /// The program, the table and the name of a chain of the old iptables.
    pub(in crate::doctor) fn legacy(&self) -> Option<(&str, &str, &str)> {
        let (program, rest) = self.name.split_once(' ')?;
        let (table, chain) = rest.split_once(' ')?;
        let old = LEGACY.iter().any(|(name, _)| *name == program);
        old.then_some((program, table, chain))
    }

    /// The name of another chain of its table.
    pub(in crate::doctor) fn beside(&self, chain: &str) -> String {
        let table = self.name.rsplit_once(' ').map_or("", |(table, _)| table);
        format!("{table} {chain}")
    }
}

/// Lists them, each program beside the others; and what could not be listed.
pub(super) async fn look(until: Instant) -> (Firewall, Vec<String>) {
    let nft = async {
        let listed = programs::output("nft", &["-j", "list", "ruleset"], until).await?;
        let Some(text) = listed else {
            return Ok(Vec::new());
        };
        beside("nft", until, move || {
            let listed: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            Ok(nft::chains(&listed))
        })
        .await
    };
    let [four, six] = LEGACY.map(|(program, tables)| legacy(program, tables, until));
    let (nft, four, six) = tokio::join!(nft, four, six);
    let (mut firewall, mut unknown) = (Firewall::default(), Vec::new());
    for listed in [nft, four, six] {
        match listed {
            Ok(chains) => firewall.chains.extend(chains),
            Err(why) => unknown.push(format!("the firewall: {why}")),
        }
    }
    (firewall, unknown)
}

/// Asking for a table loads its modules; the kernel lists those that there are, and the program asks for
/// no others.
async fn legacy(
    program: &'static str,
    tables: &'static str,
    until: Instant,
) -> Result<Vec<Chain>, String> {
    if std::fs::read_to_string(tables)
        .unwrap_or_default()
        .is_empty()
    {
        return Ok(Vec::new());
    }
    let saved = programs::output(&format!("{program}-save"), &["-c"], until).await?;
    beside(program, until, move || {
        Ok(iptables::chains(program, &saved.unwrap_or_default()))
    })
    .await
}
