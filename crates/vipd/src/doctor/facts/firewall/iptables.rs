//! Rules as `iptables-save -c` prints them.

use super::{Chain, GO_ON, Match, Rule, Verdict};

pub(super) fn chains(program: &str, saved: &str) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut table = "filter";
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
            continue;
        }
        if table == "nat" {
            continue;
        }
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let name = words.next().unwrap_or_default();
            let policy = words.next().unwrap_or("-");
            chains.push(Chain {
                name: format!("{program} {table} {name}"),
                hook: if policy == "-" {
                    String::new()
                } else {
                    name.to_lowercase()
                },
                drops: policy == "DROP",
                ..Chain::default()
            });
            continue;
        }
        let counted = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] -A "));
        let Some((counters, rule)) = counted else {
            continue;
        };
        let (name, text) = rule.split_once(' ').unwrap_or((rule, ""));
        let packets = counters
            .split(':')
            .next()
            .and_then(|count| count.parse().ok());
        let of = format!("{program} {table} {name}");
        if let Some(chain) = chains.iter_mut().find(|chain| chain.name == of) {
            let remove = format!("{program} -t {table} -D {name}");
            chain.rules.push(iptables_rule(&of, &remove, text, packets));
        }
    }
    chains
}

fn iptables_rule(chain: &str, remove: &str, text: &str, packets: Option<u64>) -> Rule {
    let words = words(text);
    let mut found = Rule {
        shown: format!("{chain}: {text}"),
        remove: remove.split(' ').map(str::to_owned).collect(),
        packets,
        ..Rule::default()
    };
    found.remove.extend(words.iter().cloned());
    let mut words = words.iter();
    let mut not = false;
    while let Some(word) = words.next() {
        if word == "!" {
            not = true;
            continue;
        }
        let mut next = || words.next().cloned().unwrap_or_default();
        let ports = |text: String| -> Vec<String> {
            let ports = text.split(',');
            ports.map(|port| port.replace(':', "-")).collect()
        };
        let condition = match word.as_str() {
            "-p" => ("ip protocol", vec![next()]),
            "-d" => ("ip daddr", vec![next()]),
            "-s" => ("ip saddr", vec![next()]),
            "-i" => ("meta iifname", vec![next()]),
            "-o" => ("meta oifname", vec![next()]),
            "--dport" | "--dports" => ("th dport", ports(next())),
            "--sport" | "--sports" => ("th sport", ports(next())),
            "--state" | "--ctstate" => {
                let states = next().to_lowercase();
                ("ct state", states.split(',').map(str::to_owned).collect())
            }
            "--dst-type" => {
                let kinds = next().to_lowercase();
                let kinds = kinds.split(',').map(str::to_owned).collect();
                ("fib daddr type", kinds)
            }
            "--pkt-type" => ("meta pkttype", vec![next()]),
            "-m" | "--reject-with" | "--comment" | "--log-prefix" | "--log-level" => {
                next();
                continue;
            }
            "-g" => {
                found.verdict = Verdict::Goto(next());
                continue;
            }
            "-j" => {
                let target = next();
                found.verdict = match target.as_str() {
                    "DROP" | "REJECT" => Verdict::Drop,
                    "ACCEPT" => Verdict::Accept,
                    "RETURN" => Verdict::Return,
                    known if GO_ON.contains(&known) => {
                        // What follows belongs to the target.
                        found.verdict = Verdict::Next;
                        return found;
                    }
                    _ => Verdict::Jump(target),
                };
                continue;
            }
            _ => {
                found.more = true;
                continue;
            }
        };
        found.matches.push(Match {
            field: condition.0.to_owned(),
            values: condition.1,
            not,
        });
        not = false;
    }
    found
}

/// The words of a rule as iptables-save quotes them.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => (quoted, begun) = (!quoted, true),
            '\\' if quoted => word.extend(characters.next()),
            ' ' if !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            _ => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_iptables_is_taken_apart() {
        let saved = "*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT DROP [4:160]\n:own - [0:0]\n\
            [12:480] -A INPUT -d 224.0.0.18/32 -p vrrp -m comment --comment \"no \\\"vrrp\\\"\" -j DROP\n\
            [0:0] -A INPUT ! -i lo -p tcp -m multiport --dports 80,8000:8010 -j own\nCOMMIT\n";
        let chains = super::chains("iptables-legacy", saved);
        let [raw, input, own] = chains.as_slice() else {
            panic!("{chains:?}");
        };
        assert_eq!(raw.name, "iptables-legacy raw PREROUTING");
        assert!(input.drops && input.hook == "input" && own.hook.is_empty());
        let [drop, jump] = input.rules.as_slice() else {
            panic!("{chains:?}");
        };
        assert_eq!(
            (&drop.verdict, drop.packets, drop.more),
            (&Verdict::Drop, Some(12), false)
        );
        assert_eq!(
            drop.remove.join(" "),
            "iptables-legacy -t filter -D INPUT -d 224.0.0.18/32 -p vrrp -m comment --comment no \"vrrp\" -j DROP"
        );
        assert_eq!(jump.verdict, Verdict::Jump("own".to_owned()));
        assert!(jump.matches[0].not);
        assert_eq!(jump.matches[2], Match::of("th dport", &["80", "8000-8010"]));
        assert_eq!(
            raw.accept("-p 112").join(" "),
            "iptables-legacy -t raw -I PREROUTING -p 112 -j ACCEPT"
        );
    }
}
