//! One line of ipvsadm's command line: options with their values, in any order, long or short.

use std::collections::BTreeMap;

/// What a line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    AddService,
    EditService,
    DeleteService,
    Clear,
    AddServer,
    EditServer,
    DeleteServer,
    SetTimeouts,
    StartDaemon,
    StopDaemon,
}

/// A line, taken apart.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) command: Command,
    /// Words that are no options: those of `--set`.
    pub(super) operands: Vec<String>,
    /// Values by the long name of their option.
    options: BTreeMap<&'static str, String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Command(Command, Value),
    Option(Value),
    /// A command that changes nothing that could be saved.
    Foreign,
}

#[derive(Clone, Copy, PartialEq)]
enum Value {
    None,
    Wanted,
    /// Taken where the next word is no option.
    Optional,
}

const NONE: Kind = Kind::Option(Value::None);
const WANTED: Kind = Kind::Option(Value::Wanted);

const fn command(command: Command) -> Kind {
    Kind::Command(command, Value::None)
}

/// Every option of ipvsadm's, by its short and its long name.
const OPTIONS: &[(Option<char>, &str, Kind)] = &[
    (Some('A'), "add-service", command(Command::AddService)),
    (Some('E'), "edit-service", command(Command::EditService)),
    (Some('D'), "delete-service", command(Command::DeleteService)),
    (Some('C'), "clear", command(Command::Clear)),
    (Some('a'), "add-server", command(Command::AddServer)),
    (Some('e'), "edit-server", command(Command::EditServer)),
    (Some('d'), "delete-server", command(Command::DeleteServer)),
    (None, "set", command(Command::SetTimeouts)),
    (
        None,
        "start-daemon",
        Kind::Command(Command::StartDaemon, Value::Wanted),
    ),
    (
        None,
        "stop-daemon",
        Kind::Command(Command::StopDaemon, Value::Wanted),
    ),
    (Some('R'), "restore", Kind::Foreign),
    (Some('S'), "save", Kind::Foreign),
    (Some('L'), "list", Kind::Foreign),
    (Some('l'), "list", Kind::Foreign),
    (Some('Z'), "zero", Kind::Foreign),
    (Some('h'), "help", Kind::Foreign),
    (Some('t'), "tcp-service", WANTED),
    (Some('u'), "udp-service", WANTED),
    (None, "sctp-service", WANTED),
    (Some('f'), "fwmark-service", WANTED),
    (Some('6'), "ipv6", NONE),
    (Some('s'), "scheduler", WANTED),
    (Some('b'), "sched-flags", WANTED),
    (Some('p'), "persistent", Kind::Option(Value::Optional)),
    (Some('M'), "netmask", WANTED),
    (None, "pe", WANTED),
    (Some('o'), "ops", NONE),
    (Some('r'), "real-server", WANTED),
    (Some('g'), "gatewaying", NONE),
    (Some('i'), "ipip", NONE),
    (Some('m'), "masquerading", NONE),
    (None, "tun-type", WANTED),
    (None, "tun-port", WANTED),
    (None, "tun-nocsum", NONE),
    (None, "tun-csum", NONE),
    (None, "tun-remcsum", NONE),
    (Some('w'), "weight", WANTED),
    (Some('x'), "u-threshold", WANTED),
    (Some('y'), "l-threshold", WANTED),
    (None, "mcast-interface", WANTED),
    (None, "syncid", WANTED),
    (None, "sync-maxlen", WANTED),
    (None, "mcast-group", WANTED),
    (None, "mcast-port", WANTED),
    (None, "mcast-ttl", WANTED),
    (Some('n'), "numeric", NONE),
];

impl Line {
    /// Takes a line apart; `None`: there is nothing on it, or a comment.
    pub(super) fn parse(text: &str) -> Result<Option<Line>, String> {
        let mut words = text.split_whitespace().peekable();
        // Lines of scripts name the program.
        let program = |word: &&str| word.rsplit('/').next() == Some("ipvsadm");
        let _ = words.next_if(program);
        if words.peek().is_none_or(|word| word.starts_with('#')) {
            return Ok(None);
        }
        let mut found = None;
        let mut operands = Vec::new();
        let mut options = BTreeMap::new();
        while let Some(word) = words.next() {
            // What is left of a word of short options, `-gw5`.
            let mut rest = match word.strip_prefix('-') {
                None | Some("") => {
                    operands.push(word.to_owned());
                    continue;
                }
                Some(rest) => rest,
            };
            loop {
                let (name, kind, attached) = next_option(word, &mut rest)?;
                let value = match kind {
                    Kind::Foreign => {
                        return Err(format!("--{name} says nothing of what a table holds"));
                    }
                    Kind::Command(command, value) => {
                        if found.replace(command).is_some() {
                            return Err("there is more than one command".to_owned());
                        }
                        value
                    }
                    Kind::Option(value) => value,
                };
                let value = match (value, attached) {
                    (Value::None, Some(_)) => return Err(format!("--{name} takes no value")),
                    (Value::None, None) => String::new(),
                    (Value::Wanted, Some(value)) | (Value::Optional, Some(value)) => {
                        value.to_owned()
                    }
                    (Value::Wanted, None) => {
                        let value = words.next();
                        value.ok_or(format!("--{name} lacks its value"))?.to_owned()
                    }
                    (Value::Optional, None) => words
                        .next_if(|word| !word.starts_with('-'))
                        .unwrap_or_default()
                        .to_owned(),
                };
                if options.insert(name, value).is_some() {
                    return Err(format!("--{name} is there twice"));
                }
                if rest.is_empty() {
                    break;
                }
            }
        }
        let command = found.ok_or("there is no command, such as -A or -a")?;
        if command != Command::SetTimeouts
            && let Some(operand) = operands.first()
        {
            return Err(format!("\"{operand}\" belongs to no option"));
        }
        Ok(Some(Line {
            command,
            operands,
            options,
        }))
    }

    /// Takes the value of an option; empty for one that has none.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.options.remove(name)
    }

    /// Whether an option is there; takes it.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        self.take(name).is_some()
    }

    /// An option that has no meaning for the command.
    pub(super) fn left_over(&self) -> Option<&'static str> {
        let without_meaning = |name: &&&str| **name != "numeric" && !is_command(name);
        self.options.keys().find(without_meaning).copied()
    }
}

fn is_command(name: &str) -> bool {
    OPTIONS
        .iter()
        .any(|(_, long, kind)| *long == name && matches!(kind, Kind::Command(..)))
}

/// The next option of a word; `rest` is what follows it. With the value that is attached to it.
fn next_option<'a>(
    word: &'a str,
    rest: &mut &'a str,
) -> Result<(&'static str, Kind, Option<&'a str>), String> {
    let unknown = |name: &str| format!("ipvsadm has no option {name}");
    if let Some(long) = word.strip_prefix("--") {
        *rest = "";
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let option = OPTIONS.iter().find(|(_, long, _)| *long == name);
        let (_, name, kind) = option.ok_or_else(|| unknown(word))?;
        return Ok((name, *kind, value));
    }
    let mut characters = rest.chars();
    let short = characters.next();
    let option = OPTIONS
        .iter()
        .find(|(known, _, _)| short.is_some() && *known == short);
    let (_, name, kind) = option.ok_or_else(|| unknown(word))?;
    let after = characters.as_str();
    let takes = match kind {
        Kind::Option(value) | Kind::Command(_, value) => *value != Value::None,
        Kind::Foreign => false,
    };
    if takes && !after.is_empty() {
        *rest = "";
        return Ok((name, *kind, Some(after)));
    }
    *rest = after;
    Ok((name, *kind, None))
}
