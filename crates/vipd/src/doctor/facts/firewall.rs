//! The packet filters of this host: nftables, which has the rules of iptables-nft, too, and the old
//! iptables where it has any.

use serde_json::Value;

use super::programs;

/// Matching rules of one program.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Firewall {
    /// The chains that packets go through.
    pub chains: Vec<Chain>,
}

/// A chain, with its rules.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Chain {
    /// Family, table and name, as nft has them: `inet filter input`.
    pub name: String,
    /// `input`, `output`, `prerouting`, ...; empty: it is jumped to.
    pub hook: String,
    /// What is in no rule is dropped.
    pub drops: bool,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Rule {
    /// What to say of it.
    pub shown: String,
    /// The command that removes it.
    pub remove: Vec<String>,
    /// What it does.
    pub verdict: Verdict,
    /// What it asks for, as `field = value`; values of sets each alone.
    pub matches: Vec<(String, Vec<String>)>,
    /// It asks for something that is not understood, or for what is not so.
    pub more: bool,
    /// How many packets it counted; `None`: it does not count.
    pub packets: Option<u64>,
}

/// What a rule does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::doctor) enum Verdict {
    /// Drop or reject.
    Drop,
    /// Accept.
    Accept,
    /// Anything else.
    #[default]
    Other,
}

impl Chain {
    /// The command that lets a protocol or an address through before all other rules.
    pub(in crate::doctor) fn accept(&self, words: &str) -> Vec<String> {
        let line = match self.name.strip_prefix("iptables ") {
            Some(chain) => format!("iptables -I {chain} {words} -j ACCEPT"),
            None => format!("nft insert rule {} {words} accept", self.name),
        };
        line.split(' ').map(str::to_owned).collect()
    }
}

/// Lists them.
pub(super) async fn look() -> Result<Firewall, String> {
    let mut firewall = Firewall::default();
    if let Some(text) = programs::output("nft", &["-j", "list", "ruleset"]).await? {
        let listed: Value = serde_json::from_str(&text).map_err(|error| format!("nft: {error}"))?;
        firewall.chains = from_nft(&listed);
    }
    // Asking loads its modules; the kernel lists the tables that exist.
    let tables = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    if tables.lines().any(|table| table == "filter") {
        let saved = programs::output("iptables-legacy-save", &["-c", "-t", "filter"]).await?;
        firewall
            .chains
            .extend(from_iptables(&saved.unwrap_or_default()));
    }
    Ok(firewall)
}

fn from_nft(listed: &Value) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let objects = listed.get("nftables").and_then(Value::as_array);
    for object in objects.into_iter().flatten() {
        if let Some(chain) = object.get("chain") {
            chains.push(Chain {
                name: path(chain, "name"),
                hook: text(chain, "hook").to_owned(),
                drops: text(chain, "policy") == "drop",
                rules: Vec::new(),
            });
        }
        if let Some(rule) = object.get("rule") {
            let of = path(rule, "chain");
            if let Some(chain) = chains.iter_mut().find(|chain| chain.name == of) {
                chain.rules.push(nft_rule(&of, rule));
            }
        }
    }
    // The daemon's own table does what the configuration says.
    chains.retain(|chain| !chain.name.starts_with("inet vipd "));
    chains
}

fn nft_rule(chain: &str, rule: &Value) -> Rule {
    let handle = rule.get("handle").and_then(Value::as_u64).unwrap_or(0);
    let mut found = Rule::default();
    let mut words = Vec::new();
    for expression in rule
        .get("expr")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let Some((kind, value)) = expression.as_object().and_then(|it| it.iter().next()) else {
            continue;
        };
        match kind.as_str() {
            "drop" | "reject" => found.verdict = Verdict::Drop,
            "accept" => found.verdict = Verdict::Accept,
            "counter" => found.packets = value.get("packets").and_then(Value::as_u64),
            "log" => {}
            "match" => match nft_match(value) {
                Some((field, values)) => {
                    words.push(format!("{field} {}", values.join(",")));
                    found.matches.push((field, values));
                }
                None => found.more = true,
            },
            _ => found.more = true,
        }
    }
    let verdict = match found.verdict {
        Verdict::Drop => "drop",
        Verdict::Accept => "accept",
        Verdict::Other => "",
    };
    found.shown = format!("{chain} (handle {handle}): {} {verdict}", words.join(" "));
    let remove = format!("nft delete rule {chain} handle {handle}");
    found.remove = remove.split(' ').map(str::to_owned).collect();
    found
}

/// A field and the values that it may have; `None`: something else than that.
fn nft_match(value: &Value) -> Option<(String, Vec<String>)> {
    if !matches!(text(value, "op"), "==" | "in") {
        return None;
    }
    let left = value.get("left")?;
    let field = match left.get("payload") {
        Some(payload) => format!("{} {}", text(payload, "protocol"), text(payload, "field")),
        None => {
            let key =
                |kind: &str| Some(format!("{kind} {}", left.get(kind)?.get("key")?.as_str()?));
            key("meta").or_else(|| key("ct"))?
        }
    };
    Some((field, values(value.get("right")?)))
}

fn values(right: &Value) -> Vec<String> {
    // `ct state new,established` comes without the word `set`.
    let set = right.as_array().or_else(|| right.get("set")?.as_array());
    if let Some(set) = set {
        return set.iter().flat_map(values).collect();
    }
    if let Some(prefix) = right.get("prefix") {
        let length = prefix.get("len").and_then(Value::as_u64).unwrap_or(0);
        return vec![format!("{}/{length}", text(prefix, "addr"))];
    }
    if let Some([from, to]) = right
        .get("range")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
    {
        return vec![format!("{}-{}", plain(from), plain(to))];
    }
    vec![plain(right)]
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn path(value: &Value, name: &str) -> String {
    format!(
        "{} {} {}",
        text(value, "family"),
        text(value, "table"),
        text(value, name)
    )
}

/// The filter table as `iptables-save -c` prints it.
fn from_iptables(saved: &str) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    for line in saved.lines() {
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let name = words.next().unwrap_or_default();
            let policy = words.next().unwrap_or("-");
            chains.push(Chain {
                name: format!("iptables {name}"),
                hook: if policy == "-" {
                    String::new()
                } else {
                    name.to_lowercase()
                },
                drops: policy == "DROP",
                rules: Vec::new(),
            });
            continue;
        }
        let counted = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] -A "));
        let Some((counters, rule)) = counted else {
            continue;
        };
        let Some((name, words)) = rule.split_once(' ') else {
            continue;
        };
        let packets = counters
            .split(':')
            .next()
            .and_then(|count| count.parse().ok());
        let of = format!("iptables {name}");
        if let Some(chain) = chains.iter_mut().find(|chain| chain.name == of) {
            chain.rules.push(iptables_rule(name, words, packets));
        }
    }
    chains
}

fn iptables_rule(chain: &str, text: &str, packets: Option<u64>) -> Rule {
    let mut found = Rule {
        shown: format!("iptables {chain}: {text}"),
        remove: format!("iptables -D {chain} {text}")
            .split(' ')
            .map(str::to_owned)
            .collect(),
        packets,
        ..Rule::default()
    };
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        let mut next = || words.next().unwrap_or_default().to_owned();
        match word {
            "-p" => found.matches.push(("ip protocol".to_owned(), vec![next()])),
            "-d" => {
                let address = next().trim_end_matches("/32").to_owned();
                found.matches.push(("ip daddr".to_owned(), vec![address]));
            }
            "-s" => found.matches.push(("ip saddr".to_owned(), vec![next()])),
            "-i" => found
                .matches
                .push(("meta iifname".to_owned(), vec![next()])),
            "-o" => found
                .matches
                .push(("meta oifname".to_owned(), vec![next()])),
            "--dport" => found
                .matches
                .push(("th dport".to_owned(), vec![next().replace(':', "-")])),
            "--state" | "--ctstate" => {
                let states = next().to_lowercase();
                let states = states.split(',').map(str::to_owned).collect();
                found.matches.push(("ct state".to_owned(), states));
            }
            "-m" | "--reject-with" => {
                next();
            }
            "-j" => {
                found.verdict = match next().as_str() {
                    "DROP" | "REJECT" => Verdict::Drop,
                    "ACCEPT" => Verdict::Accept,
                    _ => Verdict::Other,
                }
            }
            _ => found.more = true,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_nft_is_taken_apart() {
        let listed = serde_json::json!({ "nftables": [
            { "metainfo": {} },
            { "chain": { "family": "inet", "table": "filter", "name": "input", "hook": "input",
                "policy": "drop" } },
            { "rule": { "family": "inet", "table": "filter", "chain": "input", "handle": 7, "expr": [
                { "match": { "op": "==", "left": { "payload": { "protocol": "ip", "field": "protocol" } },
                    "right": "vrrp" } },
                { "match": { "op": "==", "left": { "payload": { "protocol": "tcp", "field": "dport" } },
                    "right": { "set": [80, { "range": [8000, 8010] }] } } },
                { "counter": { "packets": 3, "bytes": 9 } },
                { "drop": null } ] } },
            { "rule": { "family": "inet", "table": "filter", "chain": "input", "handle": 8, "expr": [
                { "match": { "op": "!=", "left": { "meta": { "key": "iifname" } }, "right": "eth0" } },
                { "accept": null } ] } } ] });
        let chains = from_nft(&listed);
        let [chain] = chains.as_slice() else {
            panic!("{chains:?}");
        };
        assert!(chain.drops && chain.hook == "input");
        let [first, second] = chain.rules.as_slice() else {
            panic!("{chain:?}");
        };
        assert_eq!(first.verdict, Verdict::Drop);
        assert_eq!(first.packets, Some(3));
        assert_eq!(
            first.remove.join(" "),
            "nft delete rule inet filter input handle 7"
        );
        let protocol = ("ip protocol".to_owned(), vec!["vrrp".to_owned()]);
        let ports = vec!["80".to_owned(), "8000-8010".to_owned()];
        assert_eq!(first.matches, [protocol, ("tcp dport".to_owned(), ports)]);
        assert!(second.more && second.matches.is_empty());
    }

    #[test]
    fn a_rule_of_iptables_is_taken_apart() {
        let saved = "*filter\n:INPUT DROP [4:160]\n:own - [0:0]\n\
            [12:480] -A INPUT -d 224.0.0.18/32 -p vrrp -j DROP\n\
            [0:0] -A INPUT -p tcp -m tcp --dport 80 -j ACCEPT\nCOMMIT\n";
        let chains = from_iptables(saved);
        assert!(chains[0].drops && chains[0].hook == "input" && chains[1].hook.is_empty());
        let [drop, accept] = chains[0].rules.as_slice() else {
            panic!("{chains:?}");
        };
        assert_eq!(
            (drop.verdict, drop.packets, drop.more),
            (Verdict::Drop, Some(12), false)
        );
        assert_eq!(
            drop.remove.join(" "),
            "iptables -D INPUT -d 224.0.0.18/32 -p vrrp -j DROP"
        );
        assert_eq!(accept.verdict, Verdict::Accept);
        assert_eq!(
            accept.matches[1],
            ("th dport".to_owned(), vec!["80".to_owned()])
        );
    }
}
