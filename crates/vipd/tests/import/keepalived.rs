//! keepalived.conf, construct by construct.

use std::time::Duration;

use vipd::config::import::{Format, Imported, import};

use super::{Desk, clean, config, said};

const FORMAT: Format = Format::Keepalived;

fn of(text: &str) -> Imported {
    super::of(FORMAT, text)
}

/// An instance with these lines.
fn instance(lines: &str) -> String {
    format!(
        "vrrp_instance a {{\ninterface eth0\nvirtual_router_id 1\n{lines}\nvirtual_ipaddress {{\n192.0.2.10/24\n}}\n}}\n"
    )
}

/// A virtual server with one real server that has these lines.
fn server(lines: &str) -> String {
    format!(
        "global_defs {{\nscript_user nobody\n}}\nvirtual_server 192.0.2.10 80 {{\nprotocol TCP\nlvs_method DR\nalpha\nreal_server 192.0.2.21 80 {{\n{lines}\n}}\n}}\n"
    )
}

/// The line of the result that begins with a key.
#[track_caller]
fn line(toml: &str, key: &str) -> String {
    let found = toml
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{key} = ")));
    found
        .unwrap_or_else(|| panic!("no {key} in\n{toml}"))
        .to_owned()
}

#[test]
fn a_brace_may_stand_anywhere_and_a_comment_too() {
    let wanted = clean(FORMAT, &instance("priority 150"));
    for text in [
        "vrrp_instance a\n{\n  interface eth0 # x\n virtual_router_id 1!x\n priority 150\n virtual_ipaddress\n {\n 192.0.2.10/24\n }\n}\n",
        "vrrp_instance a{ interface eth0\nvirtual_router_id 1\npriority 150\nvirtual_ipaddress { 192.0.2.10/24 } }\n",
        "vrrp_instance \"a\" {\r\ninterface eth0\r\nvirtual_router_id 1\r\npriority 150\r\nvirtual_ipaddress {\r\n192.0.2.10/24\r\n}\r\n}\r\n",
    ] {
        assert_eq!(clean(FORMAT, text), wanted);
    }
}

#[test]
fn braces_that_do_not_fit_are_said_with_their_line() {
    assert_eq!(said(&of("}\n")), ["!1: a } without its {"]);
    assert_eq!(
        said(&of("\n{\nx\n}\n")),
        ["!2: a { that belongs to nothing"]
    );
    let open = of("vrrp_instance a {\ninterface eth0\n");
    assert!(said(&open).contains(&"!1: is never closed".to_owned()));
    let quote = of(&instance("notify \"/usr/bin/true"));
    assert!(said(&quote).contains(&"!4: a quote is not closed on this line".to_owned()));
}

#[test]
fn conditional_lines_are_those_of_the_name_that_is_asked_for() {
    let text = instance("@lb1 priority 150\n@lb2 priority 50\n@^lb1 nopreempt");
    // The host is lb1.example.org.
    assert_eq!(line(&clean(FORMAT, &text), "priority"), "150");
    let second = import(FORMAT, "x", &text, Some("lb2"), &Desk::default());
    assert_eq!(line(&second.toml, "priority"), "50");
    assert_eq!(line(&second.toml, "preempt"), "false");
}

#[test]
fn definitions_are_put_in_where_they_are_used_with_what_they_are_then() {
    let text = "$BASE=192.0.${SUB}\n$SUB=2\nvrrp_instance a {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress {\n${BASE}.1/24\n$SUB=3\n${BASE}.1/24\n}\n}\n";
    let addresses = line(&clean(FORMAT, text), "virtual_addresses");
    assert_eq!(addresses, "[\"192.0.2.1/24\", \"192.0.3.1/24\"]");
    let own = format!("$NAME=@lb1\n{}", instance("$NAME priority 7"));
    assert_eq!(line(&clean(FORMAT, &own), "priority"), "7");
    let unknown = of(&instance(
        "notify_master \"/usr/bin/true ${HOME} $x\" nobody",
    ));
    assert_eq!(
        line(&unknown.toml, "command"),
        "[\"/usr/bin/true\", \"${HOME}\", \"$x\"]"
    );
}

#[test]
fn included_files_have_their_own_lines_and_folders() {
    let desk = Desk::with(&[
        ("/etc/k/conf.d/1.conf", "include sub/x.inc\n"),
        ("/etc/k/conf.d/sub/x.inc", "\nvrrp_instence a {\n}\n"),
    ]);
    let imported = import(
        FORMAT,
        "/etc/k/k.conf",
        "include conf.d/*.conf\n",
        None,
        &desk,
    );
    let problems: Vec<_> = imported.problems.iter().collect();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].file_name(), "/etc/k/conf.d/sub/x.inc");
    let one = problems[0].iter().next().unwrap();
    assert_eq!((one.line, one.column), (2, 1));
    assert_eq!(one.help, "did you mean \"vrrp_instance\"?");
}

#[test]
fn a_password_is_in_the_result_and_in_nothing_that_is_said() {
    let imported = of(&instance(
        "authentication {\nauth_type PASS\nauth_pass topsecret123\n}",
    ));
    assert_eq!(
        line(&imported.toml, "authentication"),
        "{ type = \"pass\", key = \"topsecre\" }"
    );
    let all: String = imported.warnings.iter().map(ToString::to_string).collect();
    assert!(
        all.contains("only the first eight characters count"),
        "{all}"
    );
    assert!(!all.contains("topsecre"), "{all}");
    let strange = of(&instance(
        "authentication {\nauth_type AH\nauth_pass topsecre\n}",
    ));
    assert_eq!(
        said(&strange),
        ["!4: vipd has no authentication of type \"AH\""]
    );
}

#[test]
fn intervals_are_rounded_as_keepalived_rounds_them() {
    for (version, written, wanted) in [
        (2, "1.4", "1s"),
        (2, "2.6", "3s"),
        (2, "0.2", "1s"),
        (3, "0.015", "20ms"),
        (3, "0.25", "250ms"),
        (3, "60", "40950ms"),
    ] {
        let text = instance(&format!("version {version}\nadvert_int {written}"));
        let imported = of(&text);
        let parameters = &config(&imported).vrrp[0].parameters;
        let wanted = humantime::parse_duration(wanted).unwrap();
        assert_eq!(parameters.advert_interval, wanted, "{written}");
        assert!(imported.problems.is_empty());
    }
}

#[test]
fn state_master_alone_is_the_owner_and_does_not_delay() {
    let owner = of(&instance("state MASTER\nnopreempt"));
    assert_eq!(config(&owner).vrrp[0].parameters.priority, 255);
    assert!(config(&owner).vrrp[0].parameters.preempt);
    let high = of(&instance("state MASTER\npriority 200\npreempt_delay 5"));
    assert_eq!(
        config(&high).vrrp[0].parameters.preempt_delay,
        Duration::ZERO
    );
    assert_eq!(said(&high).len(), 1);
    let backup = clean(FORMAT, &instance("state BACKUP\npreempt_delay 4.5"));
    assert_eq!(line(&backup, "preempt_delay"), "\"4500ms\"");
}

#[test]
fn peers_that_may_be_far_are_heard_from_far() {
    let near = clean(
        FORMAT,
        &instance("unicast_src_ip 192.0.2.1\nunicast_peer {\n192.0.2.2\n}"),
    );
    assert_eq!(
        line(&near, "unicast"),
        "{ source = \"192.0.2.1\", peers = [\"192.0.2.2\"] }"
    );
    let far = of(&instance(
        "unicast_src_ip 192.0.2.1\nunicast_ttl 64\nunicast_peer {\n10.0.0.2\n10.0.0.3 min_ttl 250\n}",
    ));
    assert_eq!(
        line(&far.toml, "unicast"),
        "{ source = \"192.0.2.1\", peers = [{ address = \"10.0.0.2\", min_ttl = 1 }, { address = \"10.0.0.3\", min_ttl = 250 }], ttl = 64 }"
    );
    assert_eq!(said(&far), ["6: 10.0.0.2 may be behind routers"]);
    let sourceless = of(&instance("unicast_peer {\n192.0.2.2\n}"));
    assert!(said(&sourceless)[0].starts_with("!4: vipd must know"));
}

#[test]
fn weights_do_not_count_in_a_sync_group_unless_it_says_so() {
    let file = |group: &str| {
        format!(
            "{}{}vrrp_sync_group g {{\ngroup {{\na\nb\n}}\n{group}\n}}\n",
            instance("track_interface {\neth1 weight 5\neth2\n}"),
            instance("")
                .replace("instance a", "instance b")
                .replace("_id 1", "_id 2")
                .replace(".10/", ".11/"),
        )
    };
    let imported = of(&file(""));
    assert_eq!(line(&imported.toml, "track"), "[{ interface = \"eth2\" }]");
    assert_eq!(
        said(&imported),
        ["5: keepalived ignores what is tracked with a weight in a sync group"]
    );
    let weighs = of(&file(
        "sync_group_tracking_weight\ntrack_interface {\neth9\n}",
    ));
    assert_eq!(
        line(&weighs.toml, "track"),
        "[{ interface = \"eth1\", weight = 5 }, { interface = \"eth2\" }, { interface = \"eth9\" }]"
    );
    assert_eq!(config(&weighs).vrrp[1].track.len(), 1);
}

#[test]
fn programs_get_whole_paths_and_the_user_that_keepalived_takes() {
    let text = "vrrp_script a {\nscript \"killall -0 'a b'\"\n}\nvrrp_script b {\nscript /usr/bin/true\nuser nobody\n}\n";
    let imported = of(text);
    assert_eq!(
        line(&imported.toml, "command"),
        "[\"/usr/bin/killall\", \"-0\", \"a b\"]"
    );
    assert_eq!(line(&imported.toml, "user"), "\"root\"");
    assert_eq!(said(&imported).len(), 1, "{:?}", said(&imported));
    assert_eq!(imported.toml.matches("user =").count(), 1);
    let unknown = of("vrrp_script a {\nscript \"nowhere x\"\nuser nobody\n}\n");
    assert_eq!(
        said(&unknown),
        ["!2: \"nowhere\" is no whole path, and not found on this host"]
    );
}

#[test]
fn one_program_is_told_of_all_that_it_is_named_for() {
    let more = instance("notify_master /usr/bin/true nobody\nnotify_backup /usr/bin/true nobody");
    let text = format!(
        "{more}{}",
        more.replace("instance a", "instance b")
            .replace("_id 1", "_id 2")
            .replace(".10/", ".11/")
    );
    let imported = of(&text);
    let notify = config(&imported).notify;
    assert_eq!(notify.len(), 1);
    assert_eq!(notify[0].events, ["vrrp.master", "vrrp.backup"]);
    assert_eq!(notify[0].objects, ["a", "b"]);
}

#[test]
fn checks_have_the_pace_of_their_checker() {
    for (checker, wanted) in [
        (
            "TCP_CHECK {\n}",
            "{ type = \"tcp\", interval = \"1m\", fast_interval = \"1s\", timeout = \"5s\" }",
        ),
        (
            "DNS_CHECK {\n}",
            "{ type = \"dns\", interval = \"1m\", timeout = \"5s\", fall = 4 }",
        ),
        (
            "HTTP_GET {\nurl {\npath /\n}\n}",
            "{ type = \"http\", interval = \"1m\", fast_interval = \"3s\", timeout = \"5s\" }",
        ),
        (
            "PING_CHECK {\nretry 2\n}",
            "{ type = \"ping\", interval = \"1m\", fast_interval = \"1s\", timeout = \"5s\" }",
        ),
        (
            "delay_loop 5\nTCP_CHECK {\nconnect_timeout 3\ndelay_loop 10\nretry 0\n}",
            "{ type = \"tcp\", interval = \"10s\", fall = 1 }",
        ),
        (
            "retry 3\ndelay_before_retry 0.5\nTCP_CHECK {\nalpha off\n}",
            "{ type = \"tcp\", interval = \"1m\", fast_interval = \"500ms\", timeout = \"5s\", fall = 4, start = \"up\" }",
        ),
        (
            "MISC_CHECK {\nmisc_path \"/usr/bin/true x\"\nmisc_dynamic\n}",
            "{ type = \"script\", command = [\"/usr/bin/true\", \"x\"], interval = \"1m\", timeout = \"1m\", fall = 1 }",
        ),
        (
            "UDP_CHECK {\nrequire_reply\n}",
            "{ type = \"udp\", send_hex = \"00\", interval = \"1m\", fast_interval = \"1s\", timeout = \"5s\", fall = 2 }",
        ),
    ] {
        assert_eq!(
            line(&clean(FORMAT, &server(checker)), "check"),
            wanted,
            "{checker}"
        );
    }
}

#[test]
fn a_program_whose_status_is_no_weight_fails_with_one() {
    let imported = of(&server(
        "MISC_CHECK {\nmisc_path \"/usr/bin/true 'a b'\"\n}",
    ));
    let command = line(&imported.toml, "check");
    assert!(
        command.contains("command = [\"/bin/sh\", \"-c\", \"/usr/bin/true 'a b' || exit 1\"]"),
        "{command}"
    );
    assert!(imported.toml.contains("# Exit status 2"));
}

#[test]
fn without_alpha_a_real_server_is_there_until_it_fails() {
    let text = server("TCP_CHECK {\n}").replace("alpha\n", "");
    assert!(line(&clean(FORMAT, &text), "check").ends_with("start = \"up\" }"));
}

#[test]
fn defaults_that_differ_are_written_out() {
    let text = "virtual_server 192.0.2.10 80 {\nlvs_sched mh\nreal_server 192.0.2.21 80 {\n}\n}\n";
    let imported = of(text);
    assert_eq!(line(&imported.toml, "protocol"), "\"udp\"");
    assert_eq!(line(&imported.toml, "forwarding"), "\"nat\"");
    assert_eq!(line(&imported.toml, "scheduler_flags"), "[]");
    assert_eq!(
        said(&imported),
        ["1: names no protocol, and keepalived takes UDP"]
    );
    let every = clean(
        FORMAT,
        "virtual_server 192.0.2.10 {\nprotocol TCP\nlvs_method DR\nreal_server 192.0.2.21 {\n}\n}\n",
    );
    assert_eq!(line(&every, "address"), "\"192.0.2.10:0\"");
    assert_eq!(line(&every, "persistence"), "{ timeout = \"6m\" }");
}

#[test]
fn a_group_of_addresses_is_a_virtual_server_for_each_port() {
    let text = "virtual_server_group g {\n192.0.2.10 80\n192.0.2.11-12 80\n192.0.2.10 443\nfwmark 3\n}\nvirtual_server group g {\nprotocol TCP\nlvs_method DR\nreal_server 192.0.2.21 80 {\n}\n}\n";
    let imported = of(text);
    let servers = config(&imported).virtual_servers;
    let keys: Vec<(&str, usize)> = servers
        .iter()
        .map(|s| (s.name.as_str(), s.keys.len()))
        .collect();
    assert_eq!(keys, [("g-80", 3), ("g-443", 1), ("mark-3", 1)]);
    let lost = of(
        "virtual_server_group g {\n10.0.0.0/8 80\n}\nvirtual_server group g {\nprotocol TCP\n}\n",
    );
    assert_eq!(
        said(&lost),
        ["!2: is no address, no range of them, or a range of too many"]
    );
}

#[test]
fn what_has_no_equivalent_is_said_and_what_changes_nothing_is_warned_of() {
    let imported = of(
        "global_defs {\nenable_traps\nprocess_names\nvrrp_prioritty 3\n}\nbfd_instance x {\nneighbor_ip 192.0.2.1\n}\n",
    );
    assert_eq!(
        said(&imported),
        [
            "3: vipd is one process, with a real-time thread for VRRP where it is allowed",
            "!2: vipd has no SNMP",
            "!4: not known in global_defs",
            "!6: vipd has no BFD",
        ]
    );
}

#[test]
fn mixed_words_for_failed_servers_are_a_problem() {
    let text = "virtual_server 192.0.2.10 80 {\nprotocol TCP\nlvs_method DR\nreal_server 192.0.2.21 80 {\ninhibit_on_failure\n}\nreal_server 192.0.2.22 80 {\n}\n}\n";
    assert_eq!(said(&of(text)).len(), 1);
    let same = text.replace("192.0.2.22 80 {\n", "192.0.2.22 80 {\ninhibit_on_failure\n");
    assert_eq!(line(&clean(FORMAT, &same), "on_failure"), "\"zero-weight\"");
}
