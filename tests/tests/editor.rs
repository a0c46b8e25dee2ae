//! An editor with the JSON Schema: a TOML language server, as editors run it, completes keys and values,
//! finds every example good and says where a file is wrong. `cargo xtask test` fetches it from PyPI.
#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{binary, wait_for};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn server() -> Result<PathBuf> {
    let program = workspace().join("target/lab/tombi/bin/tombi");
    ensure!(
        program.is_file(),
        "{} is not there: `cargo xtask test` fetches it",
        program.display()
    );
    Ok(program)
}

/// A folder in which every TOML file has the schema, as an editor's settings would say.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Folder> {
        let folder = std::env::temp_dir().join(format!("vipd-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let schema = Command::new(binary("vipd")?).arg("schema").output()?;
        ensure!(schema.status.success(), "{schema:?}");
        fs::write(folder.join("vipd.schema.json"), schema.stdout)?;
        fs::write(
            folder.join("tombi.toml"),
            "[[schemas]]\npath = \"vipd.schema.json\"\ninclude = [\"vipd*.toml\"]\n",
        )?;
        Ok(Folder(folder))
    }

    /// What the server says of a file; `None`: it is good.
    fn lint(&self, name: &str, text: &str) -> Result<Option<String>> {
        let name = format!("vipd-{name}.toml");
        fs::write(self.0.join(&name), text)?;
        let output = Command::new(server()?)
            .args(["lint", "--offline", &name])
            .current_dir(&self.0)
            .env("NO_COLOR", "1")
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        Ok((!output.status.success()).then_some(said))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_example_is_good_and_a_wrong_key_or_value_is_found_where_it_is() -> Result<()> {
    let folder = Folder::new("lint")?;
    let mut files = vec![workspace().join("config/vipd.toml")];
    for entry in fs::read_dir(workspace().join("config/examples"))? {
        files.push(entry?.path());
    }
    ensure!(files.len() > 5, "{files:?}");
    for file in &files {
        let found = folder.lint("example", &fs::read_to_string(file)?)?;
        ensure!(found.is_none(), "{}: {found:?}", file.display());
    }
    let good = "[[vrrp]]\nname = \"a\"\ninterface = \"eth0\"\nvrid = 51\npriority = 100\n\
                virtual_addresses = [\"192.0.2.1/24\"]\n[ipvs]\nresync_interval = \"10s\"\n";
    let found = folder.lint("good", good)?;
    ensure!(found.is_none(), "{found:?}");
    for (was, is, place) in [
        ("priority", "prioritty", ":5:1"),
        ("vrid = 51", "vrid = 300", ":4:8"),
        ("[ipvs]", "[ipsv]", ":7:"),
        ("resync_interval", "resync_intervall", ":8:1"),
        ("\"10s\"", "10", ":8:19"),
        ("\"eth0\"", "[\"eth0\"]", ":3:13"),
    ] {
        let said = folder.lint("bad", &good.replace(was, is))?;
        let said = said.with_context(|| format!("{is} is not found"))?;
        ensure!(said.contains(place), "{is} is at {place}: {said}");
    }
    Ok(())
}

#[test]
fn an_editor_completes_keys_and_values_and_says_what_they_mean() -> Result<()> {
    let folder = Folder::new("complete")?;
    let mut editor = Editor::open(&folder.0)?;
    let text = "[[vrrp]]\nname = \"a\"\npr\n";
    let found = editor.complete(text, (2, 2))?;
    let labels = |found: &[Value]| {
        let labels = found.iter().filter_map(|item| item["label"].as_str());
        labels.map(str::to_owned).collect::<Vec<_>>()
    };
    let keys = labels(&found);
    ensure!(
        keys == ["preempt", "preempt_delay", "priority"],
        "{keys:?}: {found:#?}"
    );
    let words = found[0]["documentation"]["value"].as_str();
    ensure!(
        words.is_some_and(|words| words.contains("takes over from a living master")),
        "{found:#?}"
    );
    let text = "[[virtual_server]]\nscheduler = \"\"\n[virtual_server.check]\n\n";
    let keys = labels(&editor.complete(text, (3, 0))?);
    for key in ["type", "interval", "timeout", "rise", "fall", "path", "via"] {
        ensure!(keys.iter().any(|known| known == key), "{key}: {keys:?}");
    }
    ensure!(!keys.iter().any(|key| key == "scheduler"), "{keys:?}");
    let values = labels(&editor.complete(text, (1, 13))?);
    for value in ["\"rr\"", "\"wlc\"", "\"mh\""] {
        ensure!(values.iter().any(|known| known == value), "{values:?}");
    }
    Ok(())
}

/// An editor's side of the language server protocol.
struct Editor {
    server: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    root: String,
    last: u64,
}

impl Editor {
    fn open(folder: &Path) -> Result<Editor> {
        let mut server = Command::new(self::server()?)
            .args(["lsp", "--offline"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = server.stdout.take().context("it was piped")?;
        let input = server.stdin.take().context("it was piped")?;
        let (told, messages) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Ok(Some(message)) = read(&mut output) {
                if told.send(message).is_err() {
                    return;
                }
            }
        });
        let root = format!("file://{}", folder.display());
        let mut editor = Editor {
            server,
            input,
            messages,
            root: root.clone(),
            last: 0,
        };
        let folders = json!([{ "uri": root, "name": "vipd" }]);
        let with = json!({ "processId": null, "rootUri": root, "workspaceFolders": folders,
            "capabilities": { "textDocument": { "completion": {
                "completionItem": { "documentationFormat": ["markdown"] } } } } });
        editor.ask("initialize", &with)?;
        editor.say(&json!({ "method": "initialized", "params": {} }))?;
        Ok(editor)
    }

    /// What may stand at that line and column of a file with this text.
    fn complete(&mut self, text: &str, (line, column): (u32, u32)) -> Result<Vec<Value>> {
        // A file of its own: the server answers beside what it is told.
        self.last += 1;
        let file = json!({ "uri": format!("{}/vipd-{}.toml", self.root, self.last) });
        let mut document = json!({ "languageId": "toml", "version": 1, "text": text });
        document["uri"] = file["uri"].clone();
        self.say(
            &json!({ "method": "textDocument/didOpen", "params": { "textDocument": document } }),
        )?;
        let at = json!({ "textDocument": file, "position": { "line": line, "character": column } });
        // It reads the schema beside its first answers.
        wait_for(PATIENCE, "something to complete with", || {
            let found = self.ask("textDocument/completion", &at)?;
            let items = found.get("items").unwrap_or(&found);
            let items = items.as_array().filter(|items| !items.is_empty());
            Ok(items.cloned())
        })
    }

    fn ask(&mut self, method: &str, with: &Value) -> Result<Value> {
        self.last += 1;
        let id = self.last;
        self.say(&json!({ "id": id, "method": method, "params": with }))?;
        loop {
            let message = self.messages.recv_timeout(PATIENCE);
            let message = message.with_context(|| format!("no answer to {method}"))?;
            match (message.get("method"), message.get("id")) {
                (None, Some(known)) if known == id => {
                    return message
                        .get("result")
                        .cloned()
                        .with_context(|| message.to_string());
                }
                // What the server asks of an editor this one does not have.
                (Some(_), Some(id)) => self.say(&json!({ "id": id, "result": null }))?,
                (_, _) => {}
            }
        }
    }

    fn say(&mut self, message: &Value) -> Result<()> {
        let mut message = message.clone();
        message["jsonrpc"] = json!("2.0");
        let text = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{text}", text.len())?;
        Ok(self.input.flush()?)
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The next message; `None`: there is none any more.
fn read(from: &mut impl BufRead) -> Result<Option<Value>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.parse()?;
        }
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}
