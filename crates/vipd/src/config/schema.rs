//! The JSON Schema (draft 2020-12) of the file, for editors: what [`super::keys`] says, in other words.
//!
//! A schema knows keys, types, words and ranges of numbers. It does not know what depends on other
//! values, nor how long a duration is: `vipd check` does.

use serde_json::{Map, Value, json};

use super::keys::{Absent, Key, Kind, ROOT, Table};

/// What a duration looks like: `"250ms"`, `"1h30m"`.
const DURATION: &str = r"^(0|([0-9]+ *[A-Za-zµ]+ *)+)$";

/// The schema of the whole file.
#[must_use]
pub fn schema() -> Value {
    let mut tables = Tables(Vec::new());
    let mut root = tables.object(&ROOT);
    let mut definitions = Map::new();
    // Tables in tables are found on the way.
    let mut at = 0;
    while let Some((table, name)) = tables.0.get(at).cloned() {
        let object = tables.object(table);
        definitions.insert(name, object);
        at += 1;
    }
    set(
        &mut root,
        "$schema",
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    set(&mut root, "title", json!("vipd.toml"));
    set(&mut root, "$defs", Value::Object(definitions));
    root
}

/// The tables that stand somewhere, each with the name it is defined by.
struct Tables(Vec<(&'static Table, String)>);

impl Tables {
    /// A table is defined once, however often it stands.
    fn reference(&mut self, table: &'static Table, key: &str) -> Value {
        let known = self.0.iter().find(|(other, _)| std::ptr::eq(*other, table));
        let name = match known {
            Some((_, name)) => name.clone(),
            None => {
                let taken = |name: &str| self.0.iter().any(|(_, other)| other == name);
                let mut name = key.to_owned();
                while taken(&name) {
                    name.push('_');
                }
                self.0.push((table, name.clone()));
                name
            }
        };
        json!({ "$ref": format!("#/$defs/{name}") })
    }

    fn object(&mut self, table: &'static Table) -> Value {
        let mut properties = Map::new();
        for key in table.keys {
            properties.insert(key.name.to_owned(), self.property(key));
        }
        let required = table.keys.iter().filter(|k| k.absent == Absent::Problem);
        let required: Vec<&str> = required.map(|key| key.name).collect();
        let mut object = json!({
            "type": "object",
            "description": table.doc,
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            set(&mut object, "required", json!(required));
        }
        if !table.one_of.is_empty() {
            let one = table.one_of.iter().map(|key| json!({ "required": [key] }));
            set(&mut object, "oneOf", one.collect());
        }
        let by_type = by_type(table);
        if !by_type.is_empty() {
            set(&mut object, "allOf", Value::Array(by_type));
        }
        object
    }

    fn property(&mut self, key: &Key) -> Value {
        let mut property = self.kind(&key.kind, key.name);
        let mut description = key.doc.to_owned();
        if let Kind::Duration(from, to) = key.kind {
            description.push_str(&format!(" {} to {}.", shown(from), shown(to)));
        }
        match key.absent {
            Absent::Problem => {}
            Absent::Value(default) => {
                if let Some(default) = value(default) {
                    set(&mut property, "default", default);
                }
            }
            Absent::Words(words) => description.push_str(&format!(" Default: {words}.")),
        }
        set(&mut property, "description", json!(description));
        property
    }

    fn kind(&mut self, kind: &Kind, key: &str) -> Value {
        match kind {
            Kind::Boolean => json!({ "type": "boolean" }),
            Kind::Integer(from, to) => {
                json!({ "type": "integer", "minimum": from, "maximum": to })
            }
            Kind::Duration(..) => json!({ "type": "string", "pattern": DURATION }),
            Kind::Word(words) => json!({ "type": "string", "enum": words }),
            Kind::Text(form) if form.pattern.is_empty() => json!({ "type": "string" }),
            Kind::Text(form) => json!({ "type": "string", "pattern": form.pattern }),
            Kind::List(items) => json!({ "type": "array", "items": self.kind(items, key) }),
            Kind::Table(table) => self.reference(table, key),
            Kind::Tables(table) => json!({ "type": "array", "items": self.reference(table, key) }),
            Kind::Map(values) => {
                json!({ "type": "object", "additionalProperties": self.kind(values, key) })
            }
            Kind::Either(kinds) => {
                let kinds: Vec<Value> = kinds.iter().map(|kind| self.kind(kind, key)).collect();
                json!({ "anyOf": kinds })
            }
        }
    }
}

/// For each value of `type`: the keys that it does not have.
fn by_type(table: &Table) -> Vec<Value> {
    let Some(Key {
        kind: Kind::Word(types),
        absent,
        ..
    }) = table.key("type")
    else {
        return Vec::new();
    };
    let rule = |word: &&str| {
        let others = table.keys.iter();
        let others = others.filter(|key| !key.of.is_empty() && !key.of.contains(word));
        let others: Map<String, Value> = others
            .map(|key| (key.name.to_owned(), Value::Bool(false)))
            .collect();
        let mut condition = json!({ "properties": { "type": { "const": word } } });
        let is_default = match absent {
            Absent::Value(default) => default.trim_matches('"') == *word,
            Absent::Problem | Absent::Words(_) => false,
        };
        if !is_default {
            set(&mut condition, "required", json!(["type"]));
        }
        (!others.is_empty()).then(|| json!({ "if": condition, "then": { "properties": others } }))
    };
    types.iter().filter_map(rule).collect()
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = object {
        map.insert(key.to_owned(), value);
    }
}

/// A value of TOML as one of JSON.
fn value(toml: &str) -> Option<Value> {
    let table: toml::Table = format!("it = {toml}").parse().ok()?;
    serde_json::to_value(table.get("it")?).ok()
}

/// So many milliseconds, in the largest unit that they fill: `"40.95s"` is `"40950ms"`.
#[must_use]
pub fn shown(milliseconds: u64) -> String {
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ];
    let whole = |(unit, _): &&(u64, &str)| milliseconds.is_multiple_of(*unit);
    match units.iter().find(whole) {
        _ if milliseconds == 0 => "0s".to_owned(),
        Some((unit, name)) => format!("{}{name}", milliseconds / unit),
        None => format!("{milliseconds}ms"),
    }
}
