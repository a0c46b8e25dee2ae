//! What operators look at: the metrics as promtool reads them, and that the rules and the dashboard
//! name only what is there.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use lab::director::Director;
use lab::pair::{Pair, router};
use lab::promtool::{dashboard, names, observability, promtool};
use lab::run;

/// A virtual router, a virtual server whose real server nobody is, and connection sync.
fn config() -> String {
    format!(
        "[global]\nhttp = \"127.0.0.1:9650\"\n[ipvs]\nresync_interval = \"1h\"\nsync = {{ interface = \"eth0\", id = 7 }}\n{}\
         [[virtual_server]]\nname = \"http\"\naddress = \"10.77.0.10:80\"\nvrrp = \"web\"\n\
         check = {{ type = \"tcp\", interval = \"1s\", timeout = \"1s\" }}\n\
         [[virtual_server.real_server]]\naddress = \"127.0.0.1:80\"\n",
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
    every_metric_of_the_rules_is_there(&text)?;
    for text in [&text, &open] {
        ensure!(text.ends_with("\n# EOF\n"), "{text}");
        for promised in PROMISED {
            let there = text.lines().any(|line| line.starts_with(promised));
            ensure!(there, "{promised} is not there:\n{text}");
        }
    }
    // A scrape reads the kernel's table at most once.
    let reads = || {
        let text = pair.lb1.get(URL).context("no metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(READS));
        let count: u64 = line.context("not counted")?.trim().parse()?;
        anyhow::Ok(count)
    };
    let before = reads()?;
    for scrape in 1..=10 {
        let now = reads()?;
        ensure!(now <= before + scrape, "{now} after {before} and {scrape}");
    }
    Ok(())
}

const READS: &str = "vipd_ipvs_table_reads_total ";

fn every_metric_of_the_rules_is_there(scrape: &str) -> Result<()> {
    let samples: BTreeSet<&str> = scrape
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let rules = std::fs::read_to_string(observability("alerts.yml"))?;
    for text in dashboard()?.iter().chain([&rules]) {
        for name in names(text) {
            ensure!(samples.contains(name), "{name} is not in a scrape: {text}");
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
    "vipd_real_server_up{virtual_server=\"http\",real_server=\"127.0.0.1:80\"} 0",
    "vipd_real_server_weight{virtual_server=\"http\",real_server=\"127.0.0.1:80\"} ",
    "vipd_real_server_connections{virtual_server=\"http\",real_server=\"127.0.0.1:80\",state=\"active\"} ",
    "vipd_real_server_connections{virtual_server=\"http\",real_server=\"127.0.0.1:80\",state=\"inactive\"} ",
    "vipd_virtual_server_connections_total{virtual_server=\"http\"} ",
    "vipd_virtual_server_in_packets_total{virtual_server=\"http\"} ",
    "vipd_virtual_server_out_packets_total{virtual_server=\"http\"} ",
    "vipd_virtual_server_in_bytes_total{virtual_server=\"http\"} ",
    "vipd_virtual_server_out_bytes_total{virtual_server=\"http\"} ",
    "vipd_virtual_server_quorum_up{virtual_server=\"http\"} 0",
    "vipd_check_duration_seconds_bucket{le=\"+Inf\"} ",
    "vipd_check_failures_total{virtual_server=\"http\",real_server=\"127.0.0.1:80\",reason=\"refused\"} ",
    "vipd_ipvs_repairs_total ",
    "vipd_address_repairs_total ",
    "vipd_config_last_reload_successful 1",
    "vipd_build_info{version=\"",
];
