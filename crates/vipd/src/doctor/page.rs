//! The report for people.

use std::fmt::Write as _;

use super::{Finding, Key, Remedy, Report, Severity};
use crate::shell;
use crate::status::plain;

pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        text.push_str(&one(finding));
        text.push('\n');
    }
    for unknown in &report.not_looked_at {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "not looked at: {}", plain(unknown));
    }
    let of = |severity| {
        let all = report.findings.iter();
        all.filter(|finding| finding.severity == severity).count()
    };
    let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
    let seconds = report.took_ms / 1000;
    let tenths = report.took_ms % 1000 / 100;
    let found = match report.findings.len() {
        0 => "nothing found".to_owned(),
        1 => format!("1 finding: {}", counted(errors, warnings)),
        many => format!("{many} findings: {}", counted(errors, warnings)),
    };
    let _ = writeln!(text, "{found}, after {seconds}.{tenths} s");
    text
}

fn counted(errors: usize, warnings: usize) -> String {
    let noun = |count, noun| match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    };
    match (errors, warnings) {
        (_, 0) => noun(errors, "error"),
        (0, _) => noun(warnings, "warning"),
        _ => format!("{}, {}", noun(errors, "error"), noun(warnings, "warning")),
    }
}

fn one(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut text = format!(
        "{} {severity}: {}: {}\n",
        finding.code,
        plain(&finding.object),
        plain(&finding.title)
    );
    for seen in &finding.evidence {
        let _ = writeln!(text, "  seen    {}", plain(seen));
    }
    let _ = writeln!(text, "  why     {}", plain(&finding.why));
    for line in remedy(&finding.remedy) {
        let _ = writeln!(text, "  remedy  {}", plain(&line));
    }
    text
}

fn remedy(remedy: &Remedy) -> Vec<String> {
    let mut lines = vec![remedy.words.clone()];
    if let Some(command) = &remedy.command {
        let place = remedy.on.as_deref().unwrap_or("this director");
        lines.push(format!("on {place}: {}", shell::line(command)));
    }
    if let Some(Key {
        table,
        name,
        key,
        value,
    }) = &remedy.key
    {
        let table = match name {
            Some(name) => format!("[[{table}]] {name:?}"),
            None => format!("[{table}]"),
        };
        lines.push(format!("in {table} of the configuration: {key} = {value}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_code_evidence_and_remedy_and_ends_with_a_summary() {
        let finding = Finding::new(
            super::super::catalogue::NOT_FORWARDING,
            "nat",
            vec!["net.ipv4.ip_forward is 0".to_owned()],
            Remedy::words("let it").command("sysctl -w net.ipv4.ip_forward=1"),
        );
        let report = Report {
            findings: vec![finding],
            not_looked_at: vec!["nothing".to_owned()],
            took_ms: 3210,
        };
        let page = report.page();
        let expected = "VIP-NAT-002 error: nat: this director does not forward packets\n\
             \x20 seen    net.ipv4.ip_forward is 0\n\
             \x20 why     no answer of a real server behind NAT gets to its client\n\
             \x20 remedy  let it\n\
             \x20 remedy  on this director: sysctl -w net.ipv4.ip_forward=1\n\n\
             not looked at: nothing\n\
             1 finding: 1 error, after 3.2 s\n";
        assert_eq!(page, expected);
    }
}
