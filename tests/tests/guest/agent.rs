//! Weights that real servers ask for: a script's exit status and an agent's line.

use std::path::Path;

use anyhow::{Result, ensure};
use lab::cluster::config;
use lab::director::Director;
use lab::{Lab, wait_until};
use serde_json::json;

use super::PATIENCE;

const RS1: &str = "10.77.0.21:80";
const RS2: &str = "10.77.0.22:80";

#[test]
fn a_script_and_an_agent_change_the_weight_in_the_table() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let (status, line) = (host.folder().join("status"), host.folder().join("line"));
    let says = |file: &Path, words: &str| -> Result<()> {
        // Never half a file.
        let new = file.with_extension("new");
        std::fs::write(&new, words)?;
        Ok(std::fs::rename(new, file)?)
    };
    says(&status, "0")?;
    says(&line, "up\n")?;
    // Says to everyone who connects what stands in the file.
    let words = line.display().to_string();
    let agent = ["nc", "-ll", "-p", "9999", "-e", "/bin/cat", &words];
    let _agent = host.spawn("agent", Path::new("/bin/busybox"), &agent)?;
    let script = format!("exit $(cat {})", status.display());
    let text = config("lb1", 150, 40).replace(
        "address = \"10.77.0.22\"",
        "address = \"10.77.0.22\"\nweight = 40",
    );
    let text = text.replace(
        "address = \"10.77.0.21\"",
        &format!(
            "address = \"10.77.0.21\"\ncheck = {{ type = \"script\", user = \"root\", interval = \"1s\", \
             timeout = \"30s\", command = [\"/bin/sh\", \"-c\", \"{script}\"] }}"
        ),
    );
    let text = text.replace(
        "address = \"10.77.0.22\"",
        "address = \"10.77.0.22\"\ncheck = { type = \"agent\", address = \"10.77.0.11\", port = 9999, \
         interval = \"1s\", timeout = \"30s\" }",
    );
    let lb1 = Director::start(&host, &text)?;
    let table = |wanted: &[(&str, u32)]| {
        let wanted = wanted.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        wait_until(PATIENCE, &format!("{wanted:?}"), || {
            Ok(host.weights()? == wanted)
        })
    };
    table(&[(RS1, 40), (RS2, 40)])?;
    says(&line, "up 75%\n")?;
    says(&status, "9")?;
    table(&[(RS1, 7), (RS2, 30)])?;
    let words = ["asks for 75 %", "asks for weight 7", "30/40", "7/40"];
    wait_until(PATIENCE, "the page says why", || {
        let page = lb1.status_text()?;
        Ok(words.iter().all(|words| page.contains(words)))
    })?;
    // The operator's word is the last.
    lb1.vipctl(&["weight", "http", "10.77.0.22", "5"])?;
    says(&line, "drain\n")?;
    lb1.wait_for_status(
        "/virtual_servers/0/real_servers/1/checks/0/asks_for",
        &json!({ "percent": 0 }),
    )?;
    table(&[(RS1, 7), (RS2, 5)])?;
    lb1.vipctl(&["weight", "http", "10.77.0.22", "--reset"])?;
    table(&[(RS1, 7), (RS2, 0)])?;
    says(&status, "1")?;
    says(&line, "ready\n")?;
    table(&[(RS2, 40)])?;
    let page = lb1.status_text()?;
    ensure!(page.contains("exit status 1"), "{page}");
    Ok(())
}
