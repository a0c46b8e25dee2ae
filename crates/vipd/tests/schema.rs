//! The tables of keys against the parser, and the JSON Schema that comes of them against files.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table as Toml, Value};
use vipd::config::keys::{Absent, Key, Kind, ROOT, Table};
use vipd::config::schema::schema;
use vipd::config::{Config, Problem};

/// A file with an instance of every table.
const FULL: &str = r#"
[global]
[ipvs]
timeouts = {}
sysctl = {}
sync = { interface = "eth1", id = 1 }

[sysctl]

[[vrrp]]
name = "w"
interface = "eth0"
vrid = 1
virtual_addresses = [{ address = "192.0.2.1/24" }]
virtual_mac = { interface = "vmac" }
virtual_routes = [{ to = "198.51.100.0/24", via = "192.0.2.254" }]
virtual_rules = [{ priority = 1, from = "192.0.2.1", table = 1 }]
garp = {}
unicast = { source = "192.0.2.2", peers = [{ address = "192.0.2.3" }] }
heartbeat = [{ peer = "198.51.100.2" }]
reachable = { any_of = ["192.0.2.254"] }
track = [{ process = "nginx" }]
[vrrp.authentication]
type = "hmac"
key_id = 1
key = "an example of 32 bytes, not a key"
keys = [{ id = 2, key = "another one of 32 bytes, not a key" }]

[[vrrp]]
name = "v"
interface = "eth0"
vrid = 2
virtual_addresses = ["192.0.2.11"]

[[sync_group]]
name = "both"
members = ["w", "v"]

[[notify]]
events = ["vrrp.*"]
command = ["/bin/true"]

[[track_script]]
name = "script"
command = ["/usr/bin/true"]

[[virtual_server]]
name = "http"
address = "192.0.2.1:80"
vrrp = "w"
when = "master"
forwarding = "tun"
tunnel = { type = "gue", port = 6080 }
persistence = {}
check = { type = "tcp", flap = {} }
[[virtual_server.real_server]]
address = "203.0.113.1"

[[virtual_server]]
name = "marked"
fwmark = 1
mark = [{ address = "192.0.2.9" }]
"#;

/// Keys whose range depends on the family, which the table does not know.
const BY_FAMILY: [&str; 2] = ["netmask", "netmask6"];

/// Every table but the root, and the keys that lead to it.
fn tables() -> Vec<(Vec<&'static str>, &'static Table)> {
    fn below(
        path: &[&'static str],
        table: &'static Table,
        found: &mut Vec<(Vec<&'static str>, &'static Table)>,
    ) {
        for key in table.keys {
            if let Some(table) = key.kind.table() {
                let path = [path, &[key.name]].concat();
                below(&path, table, found);
                // The table of a check is the same everywhere.
                if !found.iter().any(|(_, known)| std::ptr::eq(*known, table)) {
                    found.push((path, table));
                }
            }
        }
    }
    let mut found = Vec::new();
    below(&[], &ROOT, &mut found);
    assert!(found.len() > 20, "{}", found.len());
    found
}

/// Every key of every table but the root, and its table's path.
fn keys() -> Vec<(Vec<&'static str>, &'static Key)> {
    let tables = tables().into_iter();
    tables
        .flat_map(|(path, table)| table.keys.iter().map(move |key| (path.clone(), key)))
        .collect()
}

/// The keys that a key excludes.
fn others(path: &[&str], key: &Key) -> Vec<&'static str> {
    let table = tables().into_iter().find(|(known, _)| known == path);
    let one_of = table.unwrap().1.one_of;
    if !one_of.contains(&key.name) {
        return Vec::new();
    }
    let others = one_of.iter().filter(|other| **other != key.name);
    others.copied().collect()
}

/// The first instance of a table in a file.
fn table_at<'t>(value: &'t mut Value, path: &[&str]) -> Option<&'t mut Toml> {
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| table_at(item, path)),
        Value::Table(table) => match path {
            [] => Some(table),
            [key, rest @ ..] => table_at(table.get_mut(*key)?, rest),
        },
        _ => None,
    }
}

/// The full file, with one key of one table changed; `None` removes it.
fn changed(path_in_tables: &[&str], key: &Key, value: Option<&Value>) -> Toml {
    let mut file = Value::Table(FULL.parse().unwrap());
    let path = path_in_tables;
    let path: Vec<&str> = path
        .iter()
        .map(|key| if *key == "checks" { "check" } else { key })
        .collect();
    let table = table_at(&mut file, &path).unwrap_or_else(|| panic!("no {path:?} in FULL"));
    if path == ["notify"] && key.name == "headers" {
        // Only a webhook has them.
        table.remove("command");
        table.insert("webhook".into(), "https://example.com/".into());
    }
    if let Some(first) = key.of.first() {
        let of = if key.of.contains(&"tls") {
            "tls"
        } else {
            first
        };
        table.insert("type".into(), of.into());
        for (of_type, companion, with) in [
            ("agent", "port", Value::from(9)),
            ("script", "command", Value::from(vec!["/usr/bin/true"])),
            ("gue", "port", Value::from(6080)),
        ] {
            if of == of_type {
                table.insert(companion.into(), with);
            }
        }
    }
    if key.name == "mark" {
        table.remove("address");
        table.insert("fwmark".into(), 9.into());
    }
    for other in others(path_in_tables, key) {
        if value.is_some() {
            table.remove(other);
        }
    }
    match value {
        Some(value) => drop(table.insert(key.name.into(), value.clone())),
        None => drop(table.remove(key.name)),
    }
    let Value::Table(file) = file else {
        panic!("a table stays one")
    };
    file
}

fn parse(file: &Toml) -> Result<Config, Vec<Problem>> {
    let text = toml::to_string(file).unwrap();
    let parsed = Config::parse(&text, "x");
    parsed.map_err(|problems| problems.iter().cloned().collect())
}

/// What the parser says of that key, whatever else is wrong.
fn said(path: &[&str], key: &Key, value: &Value) -> Vec<Problem> {
    let problems = parse(&changed(path, key, Some(value)))
        .err()
        .unwrap_or_default();
    let ending = format!(".{}", key.name);
    let of_key = |problem: &Problem| {
        problem.key.ends_with(&ending) || problem.key.contains(&format!("{ending}["))
    };
    problems.into_iter().filter(of_key).collect()
}

fn toml_value(text: &str) -> Value {
    let table: Toml = format!("it = {text}").parse().unwrap();
    table["it"].clone()
}

fn alternatives(kind: &'static Kind) -> &'static [Kind] {
    match kind {
        Kind::Either(kinds) => kinds,
        other => std::slice::from_ref(other),
    }
}

fn milliseconds(count: u64) -> Value {
    format!("{count}ms").into()
}

#[test]
fn ranges_are_the_parsers() {
    let mut count = 0;
    for (path, key) in keys() {
        if BY_FAMILY.contains(&key.name) {
            continue;
        }
        let refused = |value: Value| {
            let said = said(&path, key, &value);
            let out = |problem: &Problem| {
                problem.message.contains("out of range")
                    || problem.message.contains("is longer than")
            };
            said.iter().any(out)
        };
        let limits = |low: (Value, Option<Value>), high: (Value, Value)| {
            assert!(!refused(low.0), "{path:?}.{}: least", key.name);
            assert!(low.1.is_none_or(&refused), "{path:?}.{}: below", key.name);
            assert!(refused(high.1), "{path:?}.{}: above", key.name);
            if !["fast_interval", "timeout"].contains(&key.name) {
                assert!(!refused(high.0), "{path:?}.{}: most", key.name);
            }
        };
        for kind in alternatives(&key.kind) {
            match kind {
                Kind::Integer(from, to) => {
                    count += 1;
                    limits(
                        ((*from).into(), Some((from - 1).into())),
                        ((*to).into(), (to + 1).into()),
                    );
                }
                Kind::Duration(from, to) => {
                    count += 1;
                    let below = (*from > 0).then(|| milliseconds(from - 1));
                    limits(
                        (milliseconds(*from), below),
                        (milliseconds(*to), milliseconds(to + 1)),
                    );
                }
                _ => {}
            }
        }
    }
    assert!(count > 60, "{count}");
}

#[test]
fn types_and_words_are_the_parsers_and_the_schema_refuses_the_same() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    let mut count = 0;
    for (path, key) in keys() {
        let wrong = match &key.kind {
            Kind::Boolean => (Value::from(7), "must be a boolean"),
            Kind::Integer(..) => (Value::from("x"), "must be a whole number"),
            Kind::Duration(..) => (Value::from(7), "a duration needs a unit"),
            Kind::Word(_) => (Value::from("qqqqqqqqqq"), "not one of the values"),
            Kind::Text(_) => (Value::from(7), "must be a string"),
            Kind::List(Kind::Word(_)) => (Value::from(vec!["qqqqqqqqqq"]), "not one of the values"),
            Kind::List(_) | Kind::Tables(_) => (Value::from(7), "must be a list"),
            Kind::Table(_) | Kind::Map(_) => (Value::from(7), "must be a table"),
            Kind::Either(_) => (Value::from(1.5), "must be "),
        };
        let found = said(&path, key, &wrong.0);
        let found = found
            .iter()
            .find(|problem| problem.message.contains(wrong.1));
        let Some(found) = found else {
            // Both families are needed for it.
            assert_eq!(
                key.name,
                "netmask6",
                "{path:?}.{}: {:?}",
                key.name,
                said(&path, key, &wrong.0)
            );
            continue;
        };
        if let Kind::Word(words) | Kind::List(Kind::Word(words)) = &key.kind {
            let told: Vec<&str> = found.help.split('"').skip(1).step_by(2).collect();
            assert_eq!(told, *words, "{path:?}.{}", key.name);
        }
        let json = serde_json::to_value(changed(&path, key, Some(&wrong.0))).unwrap();
        assert!(
            !schema.is_valid(&json),
            "the schema takes {path:?}.{} = {}",
            key.name,
            wrong.0
        );
        count += 1;
    }
    assert!(count > 150, "{count}");
}

#[test]
fn what_is_required_is_and_defaults_are_what_the_parser_takes() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    for (path, key) in keys() {
        let without = changed(&path, key, None);
        match key.absent {
            Absent::Problem => {
                let problems = parse(&without).unwrap_err();
                let ending = format!(".{}", key.name);
                let missing = |p: &Problem| p.message == "missing" && p.key.ends_with(&ending);
                assert!(
                    problems.iter().any(missing),
                    "{path:?}.{}: {problems:?}",
                    key.name
                );
                let json = serde_json::to_value(&without).unwrap();
                assert!(!schema.is_valid(&json), "{path:?}.{}", key.name);
            }
            Absent::Value(default) => {
                let with = changed(&path, key, Some(&toml_value(default)));
                // What needs more beside it is a problem with and without the key.
                if let (Ok(without), with) = (parse(&without), parse(&with)) {
                    assert_eq!(
                        with.as_ref(),
                        Ok(&without),
                        "{path:?}.{} = {default}",
                        key.name
                    );
                }
            }
            Absent::Words(_) => {}
        }
    }
}

#[test]
fn every_file_that_is_valid_is_so_by_the_schema() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    let mut sources = vec![("FULL".to_owned(), FULL.to_owned())];
    for file in files("config/examples", "toml")
        .into_iter()
        .chain([repository("config/vipd.toml")])
    {
        let source = fs::read_to_string(&file).unwrap();
        sources.push((file.display().to_string(), source.clone()));
        sources.push((
            format!("{} switched on", file.display()),
            uncommented(&source),
        ));
    }
    for file in files("docs", "md") {
        let text = fs::read_to_string(&file).unwrap();
        let blocks = text.split("```toml\n").skip(1);
        for block in blocks.filter_map(|block| block.split("```").next()) {
            sources.push((file.display().to_string(), block.to_owned()));
        }
    }
    for (name, source) in sources {
        if let Err(problems) = Config::parse(&source, &name) {
            panic!("{problems}");
        }
        let json = serde_json::to_value(source.parse::<Toml>().unwrap()).unwrap();
        let errors: Vec<String> = schema
            .iter_errors(&json)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

#[test]
fn broken_files_are_refused_by_the_schema_but_where_it_takes_more_than_one_value_to_know() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    let mut taken = Vec::new();
    for file in files("crates/vipd/tests/config", "toml") {
        let Ok(broken) = fs::read_to_string(&file).unwrap().parse::<Toml>() else {
            continue;
        };
        if schema.is_valid(&serde_json::to_value(broken).unwrap()) {
            taken.push(file.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    assert_eq!(taken, ["duplicates"]);
}

/// `#key = value` is a key switched off; `# words` is a comment.
fn uncommented(source: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c != ' ' && c != '#' && c != ':') => {
            rest.to_owned()
        }
        Some(_) | None => line.to_owned(),
    };
    source.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository(directory)).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}
