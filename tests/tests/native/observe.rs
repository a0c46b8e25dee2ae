//! What operators look at: the rules and the dashboard for Prometheus, and the control socket from
//! another host.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lab::director::Director;
use lab::pair::{ELECTION, Pair, router};
use lab::promtool::{dashboard, observability, promtool};
use lab::{Lab, run, wait_until};

#[test]
fn every_expression_of_the_dashboard_is_promql() -> Result<()> {
    let lab = Lab::new()?;
    // As rules, because promtool looks at those.
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    let expressions = dashboard()?;
    ensure!(expressions.len() > 25, "{expressions:?}");
    for (number, expression) in expressions.iter().enumerate() {
        let expression = expression
            .replace("$__rate_interval", "5m")
            .replace('$', "");
        rules.push_str(&format!(
            "  - record: dashboard:{number}\n    expr: '{}'\n",
            expression.replace('\'', "''")
        ));
    }
    let file = lab.folder().join("dashboard.yml");
    std::fs::write(&file, rules)?;
    promtool(&["check", "rules", &file.to_string_lossy()], "")
}

#[test]
fn the_alert_rules_are_valid_and_fire_when_they_should() -> Result<()> {
    let file = |name| observability(name).to_string_lossy().into_owned();
    promtool(&["check", "rules", &file("alerts.yml")], "")?;
    promtool(&["test", "rules", &file("alerts_test.yml")], "")?;
    Ok(())
}

#[test]
fn vipctl_works_over_a_forwarded_socket() -> Result<()> {
    let pair = Pair::new()?;
    let lb1 = Director::start(&pair.lb1, &router(150))?;
    lb1.wait_for_state("master")?;
    // As `ssh -L LOCAL:REMOTE`: another process takes the connection and makes one of its own.
    let forwarded = pair.lab.folder().join("forwarded.sock");
    let listen = format!("UNIX-LISTEN:{},fork", forwarded.display());
    let connect = format!("UNIX-CONNECT:{}", lb1.socket().display());
    let socat = Path::new("/usr/bin/socat");
    let _socat = pair.lb2.spawn("socat", socat, &[&listen, &connect])?;
    wait_until(ELECTION, "the socket", || Ok(forwarded.exists()))?;
    let vipctl = |words: &[&str]| {
        let mut vipctl = pair.lb2.command(lab::binary("vipctl")?);
        run(vipctl.arg("--socket").arg(&forwarded).args(words))
    };
    ensure!(vipctl(&["status"])?.contains("all is well: master of 1 of 1"));
    ensure!(vipctl(&["top", "--once"])?.contains("vrrp web master"));
    ensure!(vipctl(&["events"])?.contains("vrrp.master"));
    vipctl(&["maintenance", "on"])?;
    ensure!(vipctl(&["status"])?.contains("maintenance is on"));
    lb1.stop()?;
    let gone = vipctl(&["status"]).err().context("it answers")?;
    let words = format!("{gone:#}");
    ensure!(words.contains("forwarded.sock"), "{words}");
    Ok(())
}
