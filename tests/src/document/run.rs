//! Runs a document: makes its machines, and does step after step what it says.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Action, Document, Interface, Shown, Step};
use crate::machine::Machine;
use crate::{Host, Lab};

/// How long commands are repeated until they print what the document shows: two Tomcats in an emulated
/// guest take as long to start.
const PATIENCE: Duration = Duration::from_secs(240);
/// The first pause between two looks. Each is longer than the one before: looking must not be what
/// keeps a slow machine busy.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Where the labs' daemons write what they say.
const LOGS: &str = "tail -n 15 /run/*.log 2>/dev/null || true";

/// Runs a document to its end; `say` gets a line for each step.
///
/// # Errors
///
/// A step does not do what the document says; with its line.
pub fn run(path: &Path, mut say: impl FnMut(&str)) -> Result<()> {
    let document = Document::read(path)?;
    let start = Instant::now();
    let place = |line: usize| format!("{}:{line}", path.display());
    let (_lab, machines) = machines(&document).with_context(|| place(1))?;
    for step in &document.steps {
        let hosts = step.hosts.join(" ");
        let seconds = start.elapsed().as_secs_f64();
        say(&format!(
            "{seconds:6.1} s  {}  {hosts}: {}",
            place(step.line),
            title(&step.action)
        ));
        let meant = |machine: &&Machine| step.hosts.iter().any(|host| host == machine.name());
        for machine in machines.iter().filter(meant) {
            let printed = take(machine, step)
                .with_context(|| format!("{}: {}", place(step.line), machine.name()))
                .map_err(|error| error.context(logs(&machines)))?;
            for line in printed.lines() {
                say(&format!("          {line}"));
            }
        }
    }
    Ok(())
}

/// The machines of the document, with their cables, addresses and gateways.
fn machines(document: &Document) -> Result<(Lab, Vec<Machine>)> {
    let lab = Lab::new()?;
    let hosts = lab.bare_hosts(&document.hosts())?;
    let of = |host: &Host| {
        let name = host.name().to_owned();
        document.interfaces.iter().filter(move |i| i.host == name)
    };
    let cables: Vec<_> = hosts
        .iter()
        .flat_map(|host| of(host).map(move |i| (host, i.name.as_str(), i.network.as_str())))
        .collect();
    lab.wire(&cables)?;
    for host in &hosts {
        let lines: String = of(host).map(addressing).collect();
        lab.ip_batch(Some(host.namespace()), &format!("link set lo up\n{lines}"))?;
    }
    let machines = Machine::start(&hosts)?;
    Ok((lab, machines))
}

/// Lines for `ip -batch`.
fn addressing(interface: &Interface) -> String {
    let name = &interface.name;
    let mut lines = format!("link set {name} up\n");
    for address in &interface.addresses {
        // Nobody else has it, and it is to be used at once.
        let nodad = if address.contains(':') { " nodad" } else { "" };
        lines.push_str(&format!("addr add {address} dev {name}{nodad}\n"));
    }
    if let Some(gateway) = &interface.gateway {
        let default = if gateway.contains(':') {
            "::/0"
        } else {
            "default"
        };
        lines.push_str(&format!("route add {default} via {gateway}\n"));
    }
    lines
}

/// What it has printed.
fn take(machine: &Machine, step: &Step) -> Result<String> {
    match &step.action {
        Action::Write { path, text } => machine.write(path, text).map(|()| String::new()),
        Action::Do(commands) => {
            let (success, printed) = machine.sh(commands)?;
            ensure!(success, "the commands failed:\n{printed}");
            Ok(printed)
        }
        Action::Once(commands, shown) => look(machine, commands, shown, Duration::ZERO),
        Action::Look(commands, shown) => look(machine, commands, shown, PATIENCE),
    }
}

fn look(machine: &Machine, commands: &str, shown: &Shown, patience: Duration) -> Result<String> {
    let start = Instant::now();
    let mut pause = PAUSE;
    loop {
        let (_, printed) = machine.sh(commands)?;
        if shown.fits(&printed) {
            return Ok(printed);
        }
        if start.elapsed() >= patience {
            bail!("the commands print\n{printed}\ninstead of\n{shown}");
        }
        sleep(pause);
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// The first command, or the file.
fn title(action: &Action) -> String {
    match action {
        Action::Write { path, .. } => format!("writes {path}"),
        Action::Do(commands) | Action::Look(commands, _) | Action::Once(commands, _) => {
            let mut lines = commands.lines();
            let first = lines.next().unwrap_or_default().to_owned();
            match lines.next() {
                None => first,
                Some(_) => format!("{first} ..."),
            }
        }
    }
}

fn logs(machines: &[Machine]) -> String {
    let mut all = String::new();
    for machine in machines {
        if let Ok((_, text)) = machine.sh(LOGS)
            && !text.trim().is_empty()
        {
            all.push_str(&format!("--- logs of {}:\n{text}", machine.name()));
        }
    }
    all
}
