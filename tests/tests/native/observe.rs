//! What operators look at: the metrics as promtool reads them, the rules and the dashboard beside
//! them, and the control socket from another host. No kernel with IPVS is needed: without one the
//! metrics are the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::director::Director;
use lab::pair::{ELECTION, Pair, router};
use lab::{run, wait_until};
use serde_json::Value;

/// A virtual router, a virtual server whose real server nobody is, and connection sync.
fn config() -> String {
    format!(
        "[global]\nhttp = \"127.0.0.1:9650\"\n[ipvs]\nsync = {{ interface = \"eth0\", id = 7 }}\n{}\
         [[virtual_server]]\nname = \"http\"\naddress = \"10.77.0.10:80\"\nvrrp = \"web\"\n\
         check = {{ type = \"tcp\", interval = \"1s\", timeout = \"1s\" }}\n\
         [[virtual_server.real_server]]\naddress = \"127.0.0.1:7\"\n",
        router(150)
    )
}

const URL: &str = "http://127.0.0.1:9650/metrics";
/// What Prometheus asks with.
const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";

#[test]
fn the_metrics_are_those_that_are_promised_and_promtool_has_nothing_to_say() -> Result<()> {
    let pair = Pair::new()?;
    let lb1 = Director::start(&pair.lb1, &config())?;
    lb1.wait_for_event(&["real_server.down", "http"])?;
    let text = pair.lb1.get(URL).context("no metrics")?;
    promtool(&["check", "metrics"], &text)?;
    let accept = format!("Accept: {PROMETHEUS}");
    let mut curl = pair.lb1.command("curl");
    let open = run(curl.args(["--silent", "--include", "--header", &accept, URL]))?;
    ensure!(
        open.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{open}"
    );
    for line in [
        "# TYPE vipd_vrrp_transitions counter",
        "# UNIT vipd_check_duration_seconds seconds",
        "# TYPE vipd_build info",
    ] {
        ensure!(open.lines().any(|known| known == line), "no {line}: {open}");
    }
    for text in [&text, &open] {
        ensure!(text.ends_with("\n# EOF\n"), "{text}");
        for promised in PROMISED {
            let there = text.lines().any(|line| line.starts_with(promised));
            ensure!(there, "{promised} is not there:\n{text}");
        }
    }
    Ok(())
}

/// Names and labels that other programs rely on.
const PROMISED: &[&str] = &[
    "vipd_vrrp_state{name=\"web\",state=\"initialize\"} ",
    "vipd_vrrp_state{name=\"web\",state=\"backup\"} ",
    "vipd_vrrp_state{name=\"web\",state=\"master\"} ",
    "vipd_vrrp_state{name=\"web\",state=\"fault\"} ",
    "vipd_vrrp_transitions_total{name=\"web\"} ",
    "vipd_vrrp_adverts_sent_total{name=\"web\"} ",
    "vipd_vrrp_adverts_received_total{name=\"web\"} ",
    "vipd_vrrp_adverts_discarded_total{name=\"web\",reason=\"ttl\"} ",
    "vipd_vrrp_adverts_discarded_total{name=\"web\",reason=\"checksum\"} ",
    "vipd_vrrp_advert_lateness_seconds_bucket{le=\"+Inf\"} ",
    "vipd_vrrp_advert_lateness_seconds_sum ",
    "vipd_vrrp_advert_lateness_seconds_count ",
    "vipd_real_server_up{virtual_server=\"http\",real_server=\"127.0.0.1:7\"} 0",
    "vipd_real_server_weight{virtual_server=\"http\",real_server=\"127.0.0.1:7\"} ",
    "vipd_real_server_connections{virtual_server=\"http\",real_server=\"127.0.0.1:7\",state=\"active\"} ",
    "vipd_real_server_connections{virtual_server=\"http\",real_server=\"127.0.0.1:7\",state=\"inactive\"} ",
    "vipd_virtual_server_connections_total{virtual_server=\"http\"} ",
    "vipd_virtual_server_in_packets_total{virtual_server=\"http\"} ",
    "vipd_virtual_server_out_packets_total{virtual_server=\"http\"} ",
    "vipd_virtual_server_in_bytes_total{virtual_server=\"http\"} ",
    "vipd_virtual_server_out_bytes_total{virtual_server=\"http\"} ",
    "vipd_virtual_server_quorum_up{virtual_server=\"http\"} 0",
    "vipd_check_duration_seconds_bucket{le=\"+Inf\"} ",
    "vipd_check_failures_total{virtual_server=\"http\",real_server=\"127.0.0.1:7\",reason=\"refused\"} ",
    "vipd_ipvs_repairs_total ",
    "vipd_address_repairs_total ",
    "vipd_config_last_reload_successful 1",
    "vipd_build_info{version=\"",
];

#[test]
fn every_metric_of_the_rules_and_of_the_dashboard_is_there_and_its_expressions_are_promql()
-> Result<()> {
    let pair = Pair::new()?;
    let lb1 = Director::start(&pair.lb1, &config())?;
    lb1.wait_for_event(&["real_server.down", "http"])?;
    let scrape = pair.lb1.get(URL).context("no metrics")?;
    let samples: BTreeSet<&str> = scrape
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let dashboard = std::fs::read_to_string(observability("dashboard.json"))?;
    let dashboard: Value = serde_json::from_str(&dashboard)?;
    let mut expressions = Vec::new();
    strings_of(&dashboard, "expr", &mut expressions);
    ensure!(expressions.len() > 25, "{expressions:?}");
    let rules = std::fs::read_to_string(observability("alerts.yml"))?;
    for text in expressions.iter().chain([&rules]) {
        for name in names(text) {
            ensure!(samples.contains(name), "{name} is not in a scrape: {text}");
        }
    }
    // Expressions of the dashboard as rules, because promtool looks at those.
    let folder = pair.lab.folder();
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (number, expression) in expressions.iter().enumerate() {
        let expression = expression
            .replace("$__rate_interval", "5m")
            .replace(['$'], "");
        rules.push_str(&format!(
            "  - record: dashboard:{number}\n    expr: '{}'\n",
            expression.replace('\'', "''")
        ));
    }
    let file = folder.join("dashboard.yml");
    std::fs::write(&file, rules)?;
    promtool(&["check", "rules", &file.to_string_lossy()], "")?;
    Ok(())
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

fn promtool(arguments: &[&str], input: &str) -> Result<()> {
    use std::io::Write as _;
    let mut promtool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool")?;
    let mut stdin = promtool.stdin.take().context("a pipe was asked for")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = promtool.wait_with_output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    ensure!(output.status.success(), "promtool {arguments:?}: {text}");
    ensure!(!input.is_empty() || text.contains("SUCCESS"), "{text}");
    ensure!(input.is_empty() || text.trim().is_empty(), "{text}");
    Ok(())
}

fn observability(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/observability")
        .join(name)
}

/// All texts under such a key.
fn strings_of(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => found.push(text.clone()),
                    other => strings_of(other, key, found),
                }
            }
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| strings_of(value, key, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The names of metrics in a text.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("vipd_"))
}

/// Patience for what a loaded machine does late.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
