//! Documents whose command blocks are run as they stand: the labs in `docs/labs/` and every other
//! page that shows commands with their output. `docs/labs/README.md` tells readers the same as this.
//!
//! A fenced block says behind its language what it is for:
//!
//! * `lab`: the table of machines, `HOST INTERFACE NETWORK ADDRESS... [gateway ADDRESS]`, one interface a line;
//! * `sh HOST...`: commands for these machines;
//! * `LANGUAGE HOST:/path...`: a file of these machines;
//! * `prints`: what the commands right before it print, `...` for what varies. Such commands are a
//!   look: they are run until they print that, or once if the block before is `sh HOST once`;
//! * any other block is for readers only.
//!
//! Readers do not see the words behind a language, so the line before a block must name the machines
//! and the path.

mod run;
mod shown;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

pub use run::run;
pub use shown::Shown;

/// What a document says is to be done.
#[derive(Debug, PartialEq, Eq)]
pub struct Document {
    /// The interfaces of the machines.
    pub interfaces: Vec<Interface>,
    /// In the order of the document.
    pub steps: Vec<Step>,
}

/// A line of the table of machines.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it all")]
pub struct Interface {
    pub host: String,
    pub name: String,
    pub network: String,
    pub addresses: Vec<String>,
    pub gateway: Option<String>,
}

/// A block that something is done with.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it begins, from 1.
    pub line: usize,
    /// On which machines.
    pub hosts: Vec<String>,
    /// What.
    pub action: Action,
}

/// What is done.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Commands that change something: run once, and must succeed.
    Do(String),
    /// Commands that are run until they print this.
    Look(String, Shown),
    /// Commands that are run once and must print this.
    Once(String, Shown),
    /// A file is written.
    Write {
        /// Where.
        path: String,
        /// Its whole text.
        text: String,
    },
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    ///
    /// It cannot be read, or a block makes no sense; with its line.
    pub fn read(path: &Path) -> Result<Document> {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("{name}"))?;
        Document::parse(&text).with_context(|| format!("{name}"))
    }

    /// The same of a text.
    ///
    /// # Errors
    ///
    /// A block makes no sense; with its line.
    pub fn parse(text: &str) -> Result<Document> {
        let mut document = Document {
            interfaces: Vec::new(),
            steps: Vec::new(),
        };
        let mut last = None;
        for block in blocks(text)? {
            let line = block.line;
            document
                .take(&block, last.as_ref())
                .with_context(|| format!("line {line}"))?;
            last = Some(block);
        }
        ensure!(!document.interfaces.is_empty(), "there is no `lab` block");
        Ok(document)
    }

    /// The names of the machines, in the order of their table.
    #[must_use]
    pub fn hosts(&self) -> Vec<&str> {
        let mut hosts: Vec<&str> = Vec::new();
        for interface in &self.interfaces {
            if !hosts.contains(&interface.host.as_str()) {
                hosts.push(&interface.host);
            }
        }
        hosts
    }

    fn take(&mut self, block: &Block, before: Option<&Block>) -> Result<()> {
        let mut words = block.info.split_whitespace();
        let (language, words) = (words.next().unwrap_or_default(), words.collect::<Vec<_>>());
        match language {
            "lab" => self.machines(&block.text),
            "prints" => self.prints(block, before),
            _ if words.iter().any(|word| word.contains(":/")) => self.file(block, &words),
            "sh" if !words.is_empty() => self.commands(block, &words),
            // Drawings, and commands that are not for the machines of the lab.
            _ => Ok(()),
        }
    }

    fn machines(&mut self, text: &str) -> Result<()> {
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            let (words, gateway) = match words.as_slice() {
                [] => continue,
                [words @ .., "gateway", gateway] => (words, Some((*gateway).to_owned())),
                words => (words, None),
            };
            let [host, name, network, addresses @ ..] = words else {
                bail!("`{line}`: a line is HOST INTERFACE NETWORK ADDRESS...");
            };
            let bad = addresses.iter().find(|address| !address.contains('/'));
            ensure!(
                bad.is_none(),
                "`{line}`: an address has a length, as in 10.0.0.1/24"
            );
            self.interfaces.push(Interface {
                host: (*host).to_owned(),
                name: (*name).to_owned(),
                network: (*network).to_owned(),
                addresses: addresses.iter().map(|&a| a.to_owned()).collect(),
                gateway,
            });
        }
        Ok(())
    }

    fn commands(&mut self, block: &Block, words: &[&str]) -> Result<()> {
        let hosts = words.iter().copied().filter(|word| *word != "once");
        let hosts = self.known(hosts)?;
        said(block, hosts.iter().map(String::as_str))?;
        self.steps.push(Step {
            line: block.line,
            hosts,
            action: Action::Do(block.text.clone()),
        });
        Ok(())
    }

    fn file(&mut self, block: &Block, words: &[&str]) -> Result<()> {
        for word in words {
            let (host, path) = word
                .split_once(':')
                .with_context(|| format!("`{word}` is no HOST:/path"))?;
            let hosts = self.known([host].into_iter())?;
            said(block, [host, path].into_iter())?;
            self.steps.push(Step {
                line: block.line,
                hosts,
                action: Action::Write {
                    path: path.to_owned(),
                    text: block.text.clone(),
                },
            });
        }
        Ok(())
    }

    fn prints(&mut self, block: &Block, before: Option<&Block>) -> Result<()> {
        let info = before.map_or("", |before| before.info.as_str());
        let step = self.steps.last_mut().filter(|_| info.starts_with("sh "));
        let step = step.context("`prints` belongs right after a block of commands")?;
        ensure!(step.hosts.len() == 1, "`prints` after several machines");
        let shown = Shown::new(&block.text);
        if let Action::Do(commands) = &mut step.action {
            let commands = std::mem::take(commands);
            let once = info.split_whitespace().any(|word| word == "once");
            step.action = match once {
                true => Action::Once(commands, shown),
                false => Action::Look(commands, shown),
            };
        }
        Ok(())
    }

    fn known<'a>(&self, hosts: impl Iterator<Item = &'a str>) -> Result<Vec<String>> {
        let mut known = Vec::new();
        for host in hosts {
            let there = self.interfaces.iter().any(|i| i.host == host);
            ensure!(there, "there is no machine `{host}`");
            known.push(host.to_owned());
        }
        Ok(known)
    }
}

/// A reader must see these words before a block.
fn said<'a>(block: &Block, words: impl Iterator<Item = &'a str>) -> Result<()> {
    for word in words {
        ensure!(
            block.before.contains(word),
            "the text before the block does not name {word}, and readers do not see the block's own line"
        );
    }
    Ok(())
}

/// A fenced block.
struct Block {
    /// The line of its opening fence, from 1.
    line: usize,
    /// What stands behind the fence.
    info: String,
    text: String,
    /// The paragraph before it; if a block stands there, that one's.
    before: String,
}

fn blocks(text: &str) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<Block> = None;
    // A blank line ends a paragraph, but the block after it still belongs to it.
    let (mut paragraph, mut ended) = (String::new(), false);
    for (number, line) in text.lines().enumerate() {
        if let Some(mut block) = open.take() {
            if line == "```" {
                blocks.push(block);
            } else {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
        } else if let Some(info) = line.strip_prefix("```") {
            open = Some(Block {
                line: number + 1,
                info: info.trim().to_owned(),
                text: String::new(),
                before: paragraph.clone(),
            });
        } else if line.trim().is_empty() {
            ended = true;
        } else {
            if ended {
                paragraph.clear();
            }
            ended = false;
            paragraph.push_str(line);
            paragraph.push('\n');
        }
    }
    match open {
        None => Ok(blocks),
        Some(block) => bail!("line {}: the block does not end", block.line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "```lab\n# host iface net address\nrs1 eth0 lan 10.0.0.1/24 fd00::1/64 gateway 10.0.0.9\nlb1 eth0 lan 10.0.0.2/24\nlb1 eth1 far\n```\n";

    fn parsed(text: &str) -> Result<Vec<Step>> {
        Document::parse(&format!("{TABLE}{text}")).map(|document| document.steps)
    }

    fn refused(text: &str) -> String {
        parsed(text).map_or_else(
            |error| format!("{error:#}"),
            |steps| panic!("taken: {steps:?}"),
        )
    }

    #[test]
    fn the_table_of_machines_has_an_interface_a_line() -> Result<()> {
        let document = Document::parse(TABLE)?;
        assert_eq!(document.hosts(), ["rs1", "lb1"]);
        let first = &document.interfaces[0];
        assert_eq!(first.addresses, ["10.0.0.1/24", "fd00::1/64"]);
        assert_eq!(first.gateway.as_deref(), Some("10.0.0.9"));
        assert_eq!(document.interfaces[2].network, "far");
        Ok(())
    }

    #[test]
    fn commands_files_and_looks_come_in_the_order_of_the_document() -> Result<()> {
        let steps = parsed(
            "On **rs1** and **lb1**:\n\n```sh rs1 lb1\nip addr\n```\n\n\
             On **lb1**, `/etc/x`:\n```toml lb1:/etc/x\na = 1\n```\n\
             A drawing of lb1:\n```text\nlb1 --- rs1\n```\n\
             **lb1**:\n```sh lb1\nls\n```\n```prints\nfile\n```\n\
             On **lb1**:\n```sh lb1 once\nid\n```\n```prints\nroot\n```\n",
        )?;
        assert_eq!(steps.len(), 4);
        assert_eq!(steps[0].hosts, ["rs1", "lb1"]);
        assert_eq!(steps[0].line, 9);
        assert_eq!(steps[0].action, Action::Do("ip addr\n".to_owned()));
        let write = |step: &Step| matches!(&step.action, Action::Write { path, text } if path == "/etc/x" && text == "a = 1\n");
        assert!(write(&steps[1]));
        assert_eq!(
            steps[2].action,
            Action::Look("ls\n".to_owned(), Shown::new("file\n"))
        );
        assert_eq!(
            steps[3].action,
            Action::Once("id\n".to_owned(), Shown::new("root\n"))
        );
        Ok(())
    }

    #[test]
    fn what_a_reader_could_not_follow_is_refused_with_its_line() {
        let unseen = refused("Here:\n```sh rs1\nip addr\n```\n");
        assert!(
            unseen.contains("line 8") && unseen.contains("does not name rs1"),
            "{unseen}"
        );
        let path = refused("On rs1:\n```toml rs1:/etc/x\n```\n");
        assert!(path.contains("/etc/x"), "{path}");
        let unknown = refused("On rs7:\n```sh rs7\nid\n```\n");
        assert!(unknown.contains("no machine `rs7`"), "{unknown}");
        let alone = refused("On rs1:\n```prints\nx\n```\n");
        assert!(alone.contains("right after"), "{alone}");
        let open = refused("On rs1:\n```sh rs1\n");
        assert!(open.contains("does not end"), "{open}");
        let bare = Document::parse("text").map_or_else(|e| e.to_string(), |_| String::new());
        assert!(bare.contains("no `lab` block"), "{bare}");
    }
}
