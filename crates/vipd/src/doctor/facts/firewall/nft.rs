//! Rules as `nft -j list ruleset` prints them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Chain, GO_ON, Match, Rule, Verdict};

pub(super) fn chains(listed: &Value) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut sets: BTreeMap<String, &Value> = BTreeMap::new();
    let objects = listed.get("nftables").and_then(Value::as_array);
    let objects: Vec<&Value> = objects.into_iter().flatten().collect();
    for object in &objects {
        for kind in ["set", "map"] {
            if let Some((set, elements)) =
                object.get(kind).and_then(|it| Some((it, it.get("elem")?)))
            {
                sets.insert(path(set, "name"), elements);
            }
        }
    }
    for object in objects {
        if let Some(chain) = object.get("chain") {
            let device = chain.get("dev");
            let name = path(chain, "name");
            places.insert(name.clone(), chains.len());
            chains.push(Chain {
                name,
                // Those of NAT see the first packet only, and decide nothing else.
                hook: match text(chain, "type") {
                    "nat" => String::new(),
                    _ => text(chain, "hook").to_owned(),
                },
                devices: device.map(values).unwrap_or_default(),
                drops: text(chain, "policy") == "drop",
                rules: Vec::new(),
            });
        }
        if let Some(rule) = object.get("rule") {
            let of = path(rule, "chain");
            if let Some(chain) = places.get(&of).and_then(|place| chains.get_mut(*place)) {
                chain.rules.extend(nft_rules(&of, rule, &sets));
            }
        }
    }
    // The daemon's own table does what the configuration says.
    chains.retain(|chain| !chain.name.starts_with("inet vipd "));
    chains
}

/// A rule; with a map of verdicts one for each of them.
fn nft_rules(chain: &str, rule: &Value, sets: &BTreeMap<String, &Value>) -> Vec<Rule> {
    let table = chain.rsplit_once(' ').map_or("", |(table, _)| table);
    let handle = rule.get("handle").and_then(Value::as_u64).unwrap_or(0);
    let mut found = Rule::default();
    let (mut words, mut map) = (Vec::new(), None);
    let expressions = rule.get("expr").and_then(Value::as_array);
    for expression in expressions.into_iter().flatten() {
        let Some((kind, value)) = expression.as_object().and_then(|it| it.iter().next()) else {
            continue;
        };
        match kind.as_str() {
            "counter" => found.packets = value.get("packets").and_then(Value::as_u64),
            "log" | "mangle" | "notrack" | "comment" => {}
            "match" => {
                // It counted those that do not meet this, too.
                found.packets = None;
                match nft_match(value, table, sets) {
                    Some(condition) => {
                        words.push(shown(&condition));
                        found.matches.push(condition);
                    }
                    None => {
                        words.push("(something)".to_owned());
                        found.more = true;
                    }
                }
            }
            "vmap" => match verdicts(value, table, sets) {
                Some(verdicts) => map = Some(verdicts),
                None => found.verdict = Verdict::Unknown,
            },
            _ => match verdict(expression) {
                Some(verdict) => found.verdict = verdict,
                None if GO_ON.contains(&text(value, "name")) => {}
                None if text(value, "type") == "target" || kind == "queue" => {
                    found.verdict = Verdict::Unknown;
                }
                None => {
                    words.push(kind.clone());
                    found.more = true;
                }
            },
        }
    }
    let does = match (&found.verdict, &map) {
        (_, Some(_)) => "vmap".to_owned(),
        (Verdict::Drop, None) => "drop".to_owned(),
        (Verdict::Accept, None) => "accept".to_owned(),
        (Verdict::Jump(target), None) => format!("jump {target}"),
        (Verdict::Goto(target), None) => format!("goto {target}"),
        (Verdict::Return, None) => "return".to_owned(),
        (Verdict::Unknown, None) => "...".to_owned(),
        (Verdict::Next, None) => String::new(),
    };
    words.push(does);
    found.shown = format!("{chain} (handle {handle}): {}", words.join(" "));
    let remove = format!("nft delete rule {chain} handle {handle}");
    found.remove = remove.split(' ').map(str::to_owned).collect();
    let Some(map) = map else {
        return vec![found];
    };
    let of_value = |(condition, verdict): (Match, Verdict)| Rule {
        matches: [&found.matches[..], &[condition]].concat(),
        verdict,
        packets: None,
        // The others of the map would go with it.
        remove: Vec::new(),
        ..found.clone()
    };
    map.into_iter().map(of_value).collect()
}

fn shown(condition: &Match) -> String {
    let not = if condition.not { "!= " } else { "" };
    format!("{} {not}{}", condition.field, condition.values.join(","))
}

fn verdict(expression: &Value) -> Option<Verdict> {
    let (kind, value) = expression.as_object()?.iter().next()?;
    let target = || text(value, "target").to_owned();
    Some(match kind.as_str() {
        "drop" | "reject" => Verdict::Drop,
        "accept" => Verdict::Accept,
        "jump" => Verdict::Jump(target()),
        "goto" => Verdict::Goto(target()),
        "return" => Verdict::Return,
        "continue" => Verdict::Next,
        _ => return None,
    })
}

/// What a map of verdicts has, by value.
fn verdicts(
    map: &Value,
    table: &str,
    sets: &BTreeMap<String, &Value>,
) -> Option<Vec<(Match, Verdict)>> {
    let field = field(map.get("key")?)?;
    let data = map.get("data")?;
    let pairs = match data.as_str().and_then(|name| name.strip_prefix('@')) {
        Some(name) => match sets.get(&format!("{table} {name}")) {
            Some(elements) => elements.as_array()?,
            // One without elements is listed without.
            None => return Some(Vec::new()),
        },
        None => data.get("set")?.as_array()?,
    };
    let pair = |pair: &Value| {
        let [value, of_value] = pair.as_array()?.as_slice() else {
            return None;
        };
        let condition = Match {
            field: field.clone(),
            values: plain_values(value)?,
            not: false,
        };
        Some((condition, verdict(of_value)?))
    };
    pairs.iter().map(pair).collect()
}

/// `None`: it asks for something else than that a field has one of some values, or none of them.
fn nft_match(value: &Value, table: &str, sets: &BTreeMap<String, &Value>) -> Option<Match> {
    let not = match text(value, "op") {
        "==" | "in" => false,
        "!=" => true,
        _ => return None,
    };
    let right = value.get("right")?;
    let known = right
        .as_str()
        .and_then(|name| name.strip_prefix('@'))
        .and_then(|name| sets.get(&format!("{table} {name}")));
    Some(Match {
        field: field(value.get("left")?)?,
        values: plain_values(known.copied().unwrap_or(right))?,
        not,
    })
}

fn field(left: &Value) -> Option<String> {
    if let Some(payload) = left.get("payload") {
        let (protocol, field) = (text(payload, "protocol"), text(payload, "field"));
        return (!field.is_empty()).then(|| format!("{protocol} {field}"));
    }
    if let Some(fib) = left.get("fib") {
        let flags = fib.get("flags").map(values).unwrap_or_default();
        return Some(format!("fib {} {}", flags.join(" "), text(fib, "result")));
    }
    let key = |kind: &str| Some(format!("{kind} {}", left.get(kind)?.get("key")?.as_str()?));
    key("meta").or_else(|| key("ct"))
}

/// `None`: one of them is put together of several fields.
fn plain_values(right: &Value) -> Option<Vec<String>> {
    let values = values(right);
    let whole = values.iter().all(|value| !value.starts_with(['{', '[']));
    whole.then_some(values)
}

fn values(right: &Value) -> Vec<String> {
    // `ct state new,established` comes without the word `set`.
    let set = right.as_array().or_else(|| right.get("set")?.as_array());
    if let Some(set) = set {
        return set.iter().flat_map(values).collect();
    }
    // With a timeout or a counter of its own.
    if let Some(value) = right.get("elem").and_then(|elem| elem.get("val")) {
        return values(value);
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
                { "limit": { "rate": 5, "per": "second" } },
                { "jump": { "target": "own" } } ] } } ] });
        let chains = super::chains(&listed);
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
        let wanted = [
            Match::of("ip protocol", &["vrrp"]),
            Match::of("tcp dport", &["80", "8000-8010"]),
        ];
        assert_eq!(first.matches, wanted);
        assert!(second.more && second.matches[0].not);
        assert_eq!(second.verdict, Verdict::Jump("own".to_owned()));
        assert_eq!(chain.beside("own"), "inet filter own");
    }

    #[test]
    fn sets_and_maps_of_verdicts_are_looked_up() {
        let state = serde_json::json!({ "ct": { "key": "state" } });
        let rule = |handle: u64, expr: Value| {
            serde_json::json!({ "rule": { "family": "ip", "table": "t", "chain": "c", "handle": handle,
                "expr": expr } })
        };
        let listed = serde_json::json!({ "nftables": [
            { "set": { "family": "ip", "table": "t", "name": "web", "elem": [80, { "elem": { "val": 443 } }] } },
            { "map": { "family": "ip", "table": "t", "name": "by", "map": "verdict",
                "elem": [["eth0", { "goto": { "target": "x" } }]] } },
            { "chain": { "family": "ip", "table": "t", "name": "c", "hook": "ingress", "dev": "eth1" } },
            rule(1, serde_json::json!([{ "match": { "op": "==", "right": "@web",
                "left": { "payload": { "protocol": "tcp", "field": "dport" } } } }, { "accept": null }])),
            rule(2, serde_json::json!([{ "vmap": { "key": state, "data": { "set": [
                ["invalid", { "drop": null }], ["established", { "accept": null }]] } } }])),
            rule(3, serde_json::json!([{ "vmap": { "key": { "meta": { "key": "iifname" } }, "data": "@by" } }])),
            rule(4, serde_json::json!([{ "vmap": { "key": { "concat": [] }, "data": "@by" } }])),
        ] });
        let chains = super::chains(&listed);
        assert_eq!(chains[0].devices, ["eth1"]);
        let [web, invalid, established, eth0, concat] = chains[0].rules.as_slice() else {
            panic!("{chains:?}");
        };
        assert_eq!(web.matches, [Match::of("tcp dport", &["80", "443"])]);
        assert_eq!(invalid.matches, [Match::of("ct state", &["invalid"])]);
        assert_eq!(
            (&invalid.verdict, &established.verdict),
            (&Verdict::Drop, &Verdict::Accept)
        );
        assert_eq!(eth0.verdict, Verdict::Goto("x".to_owned()));
        assert_eq!(concat.verdict, Verdict::Unknown);
    }
}
