//! `vipctl top` on a real terminal, which is tmux.

use anyhow::{Context, Result, ensure};
use lab::director::Director;
use lab::pair::{Pair, fast, router};
use lab::{Host, run, wait_until};
use serde_json::json;

use super::PATIENCE;

const REAL: &str = "/virtual_servers/0/real_servers/0";

#[test]
fn top_shows_rows_and_drains_after_a_yes_and_waits_for_a_daemon_that_restarts() -> Result<()> {
    let pair = Pair::new()?;
    let config = format!(
        "{}[[virtual_server]]\nname = \"http\"\naddress = \"10.77.0.10:80\"\n\
         [[virtual_server.real_server]]\naddress = \"10.77.0.21:80\"\n\
         [[virtual_server.real_server]]\naddress = \"10.77.0.22:80\"\n",
        fast(150, "")
    );
    let mut lb1 = Director::start(&pair.lb1, &config)?;
    lb1.wait_for_state("master")?;
    let vipctl = lab::binary("vipctl")?;
    let command = format!(
        "{} --socket {} top; echo left with $?; stty -a; sleep 600",
        vipctl.display(),
        lb1.socket().display()
    );
    let terminal = Terminal::open(&pair.lb1, &command)?;
    terminal.wait_for(&["web", "master", "10.77.0.21:80", "10.77.0.22:80", "q quit"])?;
    terminal.wait_for(&["last events:", "vrrp.master"])?;
    // The first real server: below the virtual router and the virtual server.
    terminal.press(&["Down", "Down", "d"])?;
    terminal.wait_for(&["drain 10.77.0.21:80 of http", "y: do it"])?;
    ensure!(lb1.status()?.pointer(REAL).context("none")?["state"] != json!("draining"));
    terminal.press(&["y"])?;
    terminal.wait_for(&["draining", "real_server.drained"])?;
    lb1.wait_for_status(&format!("{REAL}/state"), &json!("draining"))?;
    terminal.press(&["e", "y"])?;
    lb1.wait_for_status(&format!("{REAL}/state"), &json!("up"))?;
    // Nobody takes over: the refusal is told.
    terminal.press(&["Home", "o", "y"])?;
    terminal.wait_for(&["nobody took over"])?;
    lb1.kill()?;
    terminal.wait_for(&["no answer since", "10.77.0.21:80"])?;
    let _again = Director::start(&pair.lb1, &config)?;
    wait_until(PATIENCE, "an answer", || {
        Ok(!terminal.text()?.contains("no answer since"))
    })?;
    terminal.press(&["q"])?;
    terminal.wait_for(&["left with 0", " icanon ", " echo "])?;
    Ok(())
}

#[test]
fn a_signal_ends_top_and_gives_the_terminal_back() -> Result<()> {
    let pair = Pair::new()?;
    let lb1 = Director::start(&pair.lb1, &router(150))?;
    let (vipctl, socket) = (lab::binary("vipctl")?, lb1.socket().display().to_string());
    let pid = pair.lab.folder().join("top.pid");
    let command = format!(
        "sh -c 'echo $$ > {}; exec {} --socket {socket} top'; echo left with $?; stty -a; sleep 600",
        pid.display(),
        vipctl.display()
    );
    let terminal = Terminal::open(&pair.lb1, &command)?;
    terminal.wait_for(&["q quit"])?;
    let pid = std::fs::read_to_string(&pid)?;
    run(std::process::Command::new("kill").args(["-TERM", pid.trim()]))?;
    terminal.wait_for(&["left with 0", " icanon ", " echo "])?;
    Ok(())
}

/// A terminal of its own server of tmux, which goes with it.
struct Terminal {
    host: Host,
    socket: String,
}

impl Terminal {
    fn open(host: &Host, command: &str) -> Result<Terminal> {
        let socket = host.folder().join("tmux.sock");
        let terminal = Terminal {
            host: host.clone(),
            socket: socket.to_string_lossy().into_owned(),
        };
        let size = [
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "110",
            "-y",
            "30",
        ];
        terminal.tmux(&[&size[..], &[command]].concat())?;
        Ok(terminal)
    }

    fn tmux(&self, words: &[&str]) -> Result<String> {
        let mut tmux = self.host.command("tmux");
        tmux.env("TERM", "xterm-256color").env_remove("TMUX");
        tmux.env("LC_ALL", "C.UTF-8");
        run(tmux.args(["-S", &self.socket]).args(words))
    }

    fn press(&self, keys: &[&str]) -> Result<()> {
        for key in keys {
            self.tmux(&["send-keys", key])?;
        }
        Ok(())
    }

    fn text(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until all of these are on the screen at once.
    fn wait_for(&self, words: &[&str]) -> Result<()> {
        let mut text = String::new();
        wait_until(PATIENCE, &format!("{words:?} on the screen"), || {
            text = self.text()?;
            Ok(words.iter().all(|word| text.contains(word)))
        })
        .map(|_| ())
        .with_context(|| text)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}
