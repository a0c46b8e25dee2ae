//! ldirectord.cf, construct by construct.

use vipd::config::import::Format;

use super::{config, of, said};

#[test]
fn timeouts_stand_in_for_each_other() {
    for (lines, connect, negotiate) in [
        ("", 5, 30),
        ("checktimeout=3\n", 3, 3),
        ("negotiatetimeout=4\n", 4, 4),
        ("checktimeout=3\nnegotiatetimeout=4\n", 3, 4),
    ] {
        for (kind, seconds) in [("connect", connect), ("negotiate", negotiate)] {
            let text = format!(
                "quiescent=no\n{lines}virtual=192.0.2.10:80\n\treal=192.0.2.21:80 gate\n\tchecktype={kind}\n"
            );
            let config = config(&of(Format::Ldirectord, &text));
            let check = &config.virtual_servers[0].real_servers[0].checks[0];
            assert_eq!(check.timeout.as_secs(), seconds, "{lines} {kind}");
            assert_eq!((check.interval.as_secs(), check.fall), (10, 1));
        }
    }
}

#[test]
fn an_empty_line_ends_a_virtual_server() {
    let text = "quiescent=no\nvirtual=192.0.2.10:81\n    real=192.0.2.21:81 gate\n\n    real=192.0.2.22:81 gate\n";
    let imported = of(Format::Ldirectord, text);
    assert_eq!(config(&imported).virtual_servers[0].real_servers.len(), 1);
    assert!(
        said(&imported)[0].starts_with("!5: is indented"),
        "{:?}",
        said(&imported)
    );
}

#[test]
fn secrets_are_not_shown() {
    let text = "quiescent=no\nvirtual=192.0.2.10:3306\n    real=192.0.2.21:3306 gate\n    login=\"me\"\n    passwd=\"hunter2\" x\n";
    let imported = of(Format::Ldirectord, text);
    let all: String = imported.problems.iter().map(ToString::to_string).collect();
    assert!(all.contains("mysql") && !all.contains("hunter2"), "{all}");
}

#[test]
fn a_range_stands_for_each_of_its_real_servers() {
    let text = "quiescent=no\nvirtual=192.0.2.10:80\n    real=192.0.2.21->192.0.2.24:8080 masq 3\n    checktype=on\n";
    let config = config(&of(Format::Ldirectord, text));
    let servers = &config.virtual_servers[0].real_servers;
    let addresses: Vec<String> = servers.iter().map(|real| real.key.to_string()).collect();
    assert_eq!(addresses.len(), 4);
    assert_eq!(addresses[3], "192.0.2.24:8080");
    assert!(
        servers
            .iter()
            .all(|real| real.destination.weight == 3 && real.checks.is_empty())
    );
}
